"""What does a statechart look like as a picture?

In: a chart's class, a chart, or a callable that makes one.  Out: text that Graphviz, Mermaid or PlantUML lays out, or
an SVG.  It must not know what a cache, a fleet or a page is.
"""
