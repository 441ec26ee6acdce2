"""Pages that the steps write: HTML in one self-contained file each, every text escaped, light and dark."""

from importlib import resources
from typing import Any

import jinja2

STYLE = """
:root { color-scheme: light dark; --line: #8884; --good: #2a7d3f; --bad: #b3362b; --soft: #8882; --accent: #1f5fa8; }
@media (prefers-color-scheme: dark) { :root { --good: #6fcf87; --bad: #ff8a7d; --accent: #7fb6f5; } }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.2rem; margin-top: 2.2rem; }
table { border-collapse: collapse; width: 100%; } table.narrow { width: auto; } .wide { overflow-x: auto; }
th, td { text-align: left; vertical-align: top; padding: .35rem .6rem; border-bottom: 1px solid var(--line); }
th { font-weight: 600; } td.number { text-align: right; font-variant-numeric: tabular-nums; }
.good { color: var(--good); } .bad { color: var(--bad); } .verdict { font-size: 1.15rem; font-weight: 600; }
.caution { border-left: .25rem solid var(--bad); background: var(--soft); padding: .5rem .8rem; }
td.number { white-space: nowrap; } th.number { text-align: right; } th.plain { font-weight: 400; min-width: 14rem; }
details { white-space: pre-wrap; overflow-wrap: anywhere; } td summary { white-space: nowrap; }
td details[open] { min-width: 14rem; }
figure { margin: 1rem 0; } bdi { overflow-wrap: anywhere; }
th[scope=row] { min-width: 9rem; } th[scope=col], th[scope=col] bdi { overflow-wrap: break-word; }
code { background: var(--soft); padding: .1rem .3rem; border-radius: .2rem; overflow-wrap: anywhere; }
.chart { display: block; width: 100%; max-width: 44rem; } .chart text { font-size: 12px; fill: currentColor; }
.chart line, .chart polyline { fill: none; stroke: currentColor; } .chart .axis { stroke: currentColor; opacity: .4; }
.chart .first { stroke: var(--accent); stroke-width: 2; } .chart .second { stroke-dasharray: 5 4; opacity: .7; }
.chart .bar, .chart .dot { fill: var(--accent); } .chart line.mark { stroke: var(--bad); stroke-dasharray: 5 4; }
.chart text.first { fill: var(--accent); stroke: none; } .chart text.mark { fill: var(--bad); }
@media (max-width: 40rem) {
  body { font-size: 15px; margin: 1rem auto; padding: 0 .8rem; } th, td { padding: .35rem .4rem; }
  th.plain, th[scope=row] { min-width: 8.5rem; } .chart text { font-size: 14px; }
}
"""

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ title }}{{ ": " ~ subject if subject }}</title><style>{{ style }}</style></head>
<body><main><h1>{{ title }}</h1>
{% if subject %}
<p><bdi>{{ subject }}</bdi></p>
{% endif %}
{% block content %}{% endblock %}
</main></body></html>
"""


def render(package: str, template: str, *, title: str, subject: str = "", **values: Any) -> str:
    """A page from a template file of a step's package: HTML, which extends "page" and fills its block, or Markdown.
    Nothing is escaped in Markdown: that is up to the template. All pages of a kind have one `title`; the `subject`
    tells their browser tabs apart."""
    source = resources.files(package).joinpath(template).read_text(encoding="utf-8")
    environment = jinja2.Environment(
        loader=jinja2.DictLoader({"page": _PAGE, template: source}),
        autoescape=template.endswith(".html.j2"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(title=title, subject=subject, style=STYLE, **values)
