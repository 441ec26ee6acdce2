"""Pages that the steps write: HTML in one self-contained file each, every text escaped, light and dark."""

import base64
import io
from importlib import resources
from typing import TYPE_CHECKING, Any

import jinja2

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STYLE = """
:root { color-scheme: light dark; --line: #8884; --good: #2a7d3f; --bad: #b3362b; --soft: #8882; }
@media (prefers-color-scheme: dark) { :root { --good: #6fcf87; --bad: #ff8a7d; } }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.2rem; margin-top: 2.2rem; }
table { border-collapse: collapse; width: 100%; } table.narrow { width: auto; } .wide { overflow-x: auto; }
th, td { text-align: left; vertical-align: top; padding: .35rem .6rem; border-bottom: 1px solid var(--line); }
th { font-weight: 600; } td.number { text-align: right; font-variant-numeric: tabular-nums; }
.good, .bad { white-space: nowrap; }
.good { color: var(--good); } .bad { color: var(--bad); } .verdict { font-size: 1.15rem; font-weight: 600; }
td.number { white-space: nowrap; } th.number { text-align: right; } th.plain { font-weight: 400; min-width: 14rem; }
@media (max-width: 40rem) { body { font-size: 15px; margin: 1rem auto; } th.plain { min-width: 9rem; } }
details { white-space: pre-wrap; overflow-wrap: anywhere; } td summary { white-space: nowrap; }
figure { margin: 1rem 0; } img { max-width: 100%; background: #fff; }
bdi { overflow-wrap: anywhere; }
th[scope=row] { min-width: 9rem; } th[scope=col], th[scope=col] bdi { overflow-wrap: break-word; }
code { background: var(--soft); padding: .1rem .3rem; border-radius: .2rem; overflow-wrap: anywhere; }
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


def png(figure: "Figure") -> str:
    """A figure as a data: URI."""
    picture = io.BytesIO()
    figure.savefig(picture, format="png", metadata={"Software": None})
    return "data:image/png;base64," + base64.b64encode(picture.getvalue()).decode()
