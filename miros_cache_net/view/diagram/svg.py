"""A diagram as an SVG: laid out by Graphviz, then made fit for a page.

Colours stand in attributes, so that the picture is whole by itself (a light card on any ground), and every element has
a class, so that the style sheet of a page can give it others.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from typing import Final

from miros_cache_net.errors import ChartError
from miros_cache_net.view.diagram.crossings import crossings
from miros_cache_net.view.diagram.dot import DOWN, FONT, PALETTE, RIGHT, dot_text
from miros_cache_net.view.diagram.model import Diagram

_SVG: Final = "http://www.w3.org/2000/svg"
_FAMILY: Final = f"{FONT}, 'Liberation Sans', Helvetica, sans-serif"
_LAYOUT_MOST_S: Final = 20.0
#: Keeps words readable where a line runs behind them.
_HALO: Final = {"paint-order": "stroke", "stroke": PALETTE.levels[0], "stroke-width": "3", "stroke-linejoin": "round"}
#: The attribute that says of which diagram a picture is; see `digest`.
DIGEST: Final = "data-digest"


class NoGraphviz(ChartError):
    """The program `dot` of Graphviz is not installed."""


def svg_text(diagram: Diagram) -> str:
    """The picture, left to right or top down: whichever has fewer lines that cross and needs the smaller frame.

    Raises `NoGraphviz`, and `ChartError` if Graphviz cannot lay it out.
    """
    drawn = [_laid_out(diagram, direction) for direction in (DOWN, RIGHT)]
    return _dressed(min(drawn, key=_ugliness), diagram)


def digest(diagram: Diagram) -> str:
    """A short name for what the picture shows, the same whichever release of Graphviz has drawn it."""
    return hashlib.sha256(dot_text(diagram).encode()).hexdigest()[:16]


def _laid_out(diagram: Diagram, direction: str) -> ET.Element:
    program = shutil.which("dot")
    if program is None:
        raise NoGraphviz("the program `dot` is not installed; Graphviz brings it (Debian: apt-get install graphviz)")
    try:
        done = subprocess.run(
            [program, "-Tsvg"],
            input=dot_text(diagram, direction).encode(),
            capture_output=True,
            timeout=_LAYOUT_MOST_S,
            check=True,
        )
        return ET.fromstring(done.stdout)
    except subprocess.TimeoutExpired:
        why = f"Graphviz takes longer than {_LAYOUT_MOST_S:g} s for its {len(diagram.states)} states"
    except subprocess.CalledProcessError as error:
        why = f"Graphviz says: {error.stderr.decode(errors='replace').strip()[:300] or f'exit code {error.returncode}'}"
    except ET.ParseError as error:
        why = f"what Graphviz made is no SVG: {error}"
    raise ChartError(f"{diagram.name} cannot be drawn: {why}")


def _size(svg: ET.Element) -> tuple[float, float]:
    _x, _y, width, height = (float(number) for number in svg.get("viewBox", "0 0 0 0").split())
    return width, height


def _ugliness(svg: ET.Element) -> float:
    """How large a frame of 4 by 3 has to be for it; a crossing counts as a quarter more."""
    width, height = _size(svg)
    paths = [path.get("d", "") for group in _arrows(svg) for path in group.iter(f"{{{_SVG}}}path")]
    return max(width / 4, height / 3) * (1 + crossings(paths) / 4)


def _arrows(svg: ET.Element) -> Iterator[ET.Element]:
    return (group for group in svg.iter(f"{{{_SVG}}}g") if "arrow" in group.get("class", "").split())


def _dressed(svg: ET.Element, diagram: Diagram) -> str:
    ET.register_namespace("", _SVG)
    width, height = _size(svg)
    words = f"States of {diagram.name}"
    svg.attrib.update(
        {"width": f"{width:.0f}", "height": f"{height:.0f}", "class": "statechart", "role": "img", "aria-label": words}
    )
    names = {f"state-s{number}": state.name for number, state in enumerate(diagram.states)}
    ends = {
        f"arrow-s{source}-s{target}": (one.name, two.name)
        for source, one in enumerate(diagram.states)
        for target, two in enumerate(diagram.states)
    }
    for element in list(svg.iter()):
        element.attrib.pop("font-family", None)
        identity = element.attrib.pop("id", "")
        if identity in names:
            element.set("data-state", names[identity])
        elif identity in ends:
            element.attrib.update(zip(("data-from", "data-to"), ends[identity], strict=True))
        for title in element.findall(f"{{{_SVG}}}title"):
            element.remove(title)
    svg.attrib.update({"font-family": _FAMILY, DIGEST: digest(diagram)})
    for text in (each for group in _arrows(svg) for each in group.iter(f"{{{_SVG}}}text")):
        text.attrib.update(_HALO)
    title = ET.Element(f"{{{_SVG}}}title")
    title.text = words
    description = ET.Element(f"{{{_SVG}}}desc")
    description.text = "\n".join(_sentences(diagram))
    svg[:0] = [title, description]
    return ET.tostring(svg, encoding="unicode") + "\n"


def _sentences(diagram: Diagram) -> Iterator[str]:
    """The chart in words, for those who do not see it."""
    if diagram.start is not None:
        yield f"Starts in {diagram.start}."
    for state in diagram.states:
        if state.parent is not None:
            yield f"{state.name} lies in {state.parent}."
        if state.initial:
            yield f"{state.name} begins in {' or '.join(state.initial)}."
    for arrow in diagram.arrows:
        yield f"{', '.join(arrow.signals)}: from {arrow.source} to {arrow.target}."
