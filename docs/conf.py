"""Sphinx: pages in Markdown, the Python reference from the docstrings.  New pages are found by themselves."""

from __future__ import annotations

import re
import sys
from importlib.metadata import version as version_of
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "tools"))

project = "miros-cache-net"
author = "the miros-cache-net developers"
version = release = version_of("miros-cache-net")
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx_copybutton", "sphinx_design", "page_links"]
myst_enable_extensions = ["attrs_inline", "colon_fence", "deflist"]
myst_heading_anchors = 3
exclude_patterns = ["_build", "tools"]
html_theme = "furo"
html_title = "miros-cache-net"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_theme_options = {
    "source_repository": "https://github.com/aleph2c/miros-cache-net/",
    "source_branch": "main",
    "source_directory": "docs/",
}
copybutton_prompt_text = "$ "
copybutton_only_copy_prompt_lines = True
# places that only exist where somebody follows the page
linkcheck_ignore = [r"http://(localhost|127\.0\.0\.1)", r"https?://[^/]*example"]
linkcheck_anchors_ignore_for_url = [r"https://github\.com/"]
autodoc_member_order = "bysource"
autodoc_typehints = "signature"


def _is_laid_out(block: list[str]) -> bool:
    """Aligned columns, indented code: a block whose line breaks mean something."""
    return any(line.startswith(" ") or re.search(r"\S {2,}\S", line.replace(".  ", ". ")) for line in block)


def _as_restructured_text(lines: list[str]) -> list[str]:
    """Our docstrings are plain text for `help()`: `names` in back-ticks, columns aligned by hand."""
    made: list[str] = []
    for block in re.split(r"\n{2,}", "\n".join(lines).strip("\n")):
        rows = block.split("\n")
        if _is_laid_out(rows):
            made += ["::", "", *(f"   {row}" for row in rows), ""]
        else:
            # Back-ticks once or twice become twice; the rest means itself.
            text = re.sub(r"([*|\\]|\b_(?=\s|$)|_\b)", r"\\\1", block)
            made += [*re.sub(r"`+([^`\n]+)`+", lambda m: f"``{m[1].replace(chr(92), '')}``", text).split("\n"), ""]
    return made


def setup(app: object) -> None:
    def rewrite(_app: object, _what: str, _name: str, _object: object, _options: object, lines: list[str]) -> None:
        lines[:] = _as_restructured_text(lines)

    app.connect("autodoc-process-docstring", rewrite)  # type: ignore[attr-defined]
