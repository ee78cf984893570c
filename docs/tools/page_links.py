"""A Sphinx extension: names in code become links to where they are explained, and pictures take the theme's colours.

The pages stay plain Markdown, which reads as well in a clone: a name in back-ticks is enough.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.transforms.post_transforms import SphinxPostTransform


class LinkNames(SphinxPostTransform):
    """`CacheNode`, `Cache.modify`, `MIROS_CACHE_KEYS`, `CACHE_DESTROY` and `miros-cache-net status` become links."""

    default_priority = 20

    def run(self, **_: Any) -> None:
        places = _places(self.env)
        for literal in list(self.document.findall(nodes.literal)):
            place = None if _is_taken(literal) else places.get(literal.astext().removesuffix("()"))
            if place is None or place[0] == self.env.docname:
                continue
            where, anchor = place
            uri = self.app.builder.get_relative_uri(self.env.docname, where) + (f"#{anchor}" if anchor else "")
            link = nodes.reference("", "", internal=True, refuri=uri, classes=["name"])
            literal.replace_self(link)
            link += literal


def _is_taken(literal: nodes.literal) -> bool:
    """Whether it is part of a link or a title already."""
    at: nodes.Node | None = literal.parent
    while at is not None:
        if isinstance(at, nodes.reference | nodes.title | nodes.term):
            return True
        at = at.parent
    return False


def _places(env: BuildEnvironment) -> dict[str, tuple[str, str]]:
    """Page and anchor of every name that has a place of its own."""
    found = {}
    for name, entry in env.domains["py"].objects.items():  # type: ignore[attr-defined]
        short = name.removeprefix("miros_cache_net.")
        for each in (name, short, ".".join(short.split(".")[-2:]) if short.count(".") > 1 else short):
            if each[0].isupper() or "_" in each:
                found[each] = (entry.docname, entry.node_id)
    for page, pattern in (
        ("reference/settings", r"`((?:MIROS_CACHE|RABBIT|MESH)_\w+)`"),
        ("reference/signals", r"^\| `([A-Z_]+)` \|"),
    ):
        text = Path(env.doc2path(page)).read_text(encoding="utf-8")
        found |= dict.fromkeys(re.findall(pattern, text, re.MULTILINE), (page, ""))
    commands = Path(env.doc2path("reference/commands")).read_text(encoding="utf-8")
    for name in re.findall(r"^### (.+)$", commands, re.MULTILINE):
        found[f"miros-cache-net {name}"] = ("reference/commands", name.replace(" ", "-"))
    return found


class InlinePictures(SphinxPostTransform):
    """Pictures of `_static` go into the page itself: only so can the theme, and its switch, give them colours."""

    default_priority = 20
    formats = ("html",)

    def run(self, **_: Any) -> None:
        for image in list(self.document.findall(nodes.image)):
            path = Path(self.env.srcdir) / image["uri"]
            if path.suffix == ".svg" and path.parent.parent.name == "_static":
                picture = nodes.raw("", _inline(path.read_text(encoding="utf-8"), path.stem), format="html")
                image.replace_self(picture)


def _inline(svg: str, name: str) -> str:
    return f'<div class="picture" id="picture-{name}" tabindex="0">{svg}</div>'


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_post_transform(LinkNames)
    app.add_post_transform(InlinePictures)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
