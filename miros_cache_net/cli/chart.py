"""`miros-cache-net chart`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import click

from miros_cache_net.cli.exits import Exit, say

if TYPE_CHECKING:
    from miros_cache_net.view.diagram.model import Diagram

FORMATS: Final = ("svg", "mermaid", "plantuml", "dot")


@click.command("chart")
@click.argument("name", metavar="MODULE:NAME")
@click.option(
    "--format",
    "form",
    type=click.Choice(FORMATS),
    default="svg",
    show_default=True,
    help="A picture, or text for Mermaid, PlantUML or Graphviz.",
)
def command(name: str, form: str) -> int:
    """Draw a statechart.

    NAME is a class with STATES, a chart, or a callable that makes one; a name without a module is one of this package.
    A state shows what it does on entry, on exit and on events that keep the chart where it is; arrows show the others.
    A chart that is written as functions shows what its trace has seen, so that a callable may post events to it first.

    SVG needs the program `dot` of Graphviz. Without it Mermaid is printed, and a line says so.

    \b
    Examples:
      miros-cache-net chart CacheFileChart > cache.svg
      miros-cache-net chart CacheNode --format mermaid
      miros-cache-net chart my_program:make_chart > mine.svg
    """
    from miros_cache_net.errors import ChartError
    from miros_cache_net.view.diagram.named import diagram_named
    from miros_cache_net.view.diagram.svg import NoGraphviz

    try:
        diagram = diagram_named(name)
        try:
            text = _writer(form)(diagram)
        except NoGraphviz as error:
            say(f"{error}; this is Mermaid instead")
            text = _writer("mermaid")(diagram)
    except ChartError as error:
        raise click.UsageError(str(error)) from error
    click.echo(text, nl=False)
    return Exit.DONE


def _writer(form: str) -> Callable[[Diagram], str]:
    from miros_cache_net.view.diagram import dot, outline, svg

    return {
        "svg": svg.svg_text,
        "mermaid": outline.mermaid_text,
        "plantuml": outline.plantuml_text,
        "dot": dot.dot_text,
    }[form]
