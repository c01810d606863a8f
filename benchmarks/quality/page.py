"""The self-contained HTML page of an evaluation: animated clips, the table, the plot."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from benchmarks.quality.table import NOTES, headings, set_rows, summary

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<style>
:root {{ --ground: #ffffff; --text: #1d2126; --quiet: #68707a; --line: #dfe2e6; }}
@media (prefers-color-scheme: dark) {{
  :root {{ --ground: #131619; --text: #e7e9ec; --quiet: #969ea8; --line: #2c3238; }}
}}
* {{ box-sizing: border-box; margin: 0; }}
body {{ background: var(--ground); color: var(--text); max-width: 72rem; margin: 0 auto; padding: 4rem 1.5rem 3rem;
  font: 1rem/1.5 ui-sans-serif, system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }}
h1 {{ font-size: 2.25rem; line-height: 1.15; font-weight: 650; letter-spacing: -.02em; overflow-wrap: anywhere; }}
h2 {{ font-size: 1.25rem; line-height: 1.3; font-weight: 650; margin-bottom: .75rem; }}
p {{ max-width: 48rem; }}
.quiet {{ color: var(--quiet); font-size: .875rem; margin-top: .75rem; }}
section {{ margin-top: 3.5rem; }}
.scroll {{ overflow-x: auto; }}
table {{ border-collapse: collapse; width: 100%; font-size: .9rem; }}
th, td {{ text-align: left; vertical-align: baseline; padding: .45rem .9rem .45rem 0; font-weight: 400; }}
thead th {{ color: var(--quiet); font-size: .8125rem; border-bottom: 1px solid var(--line); }}
tbody th {{ font-weight: 600; white-space: nowrap; }}
.floor > * {{ color: var(--quiet); font-weight: 400; }}
.number {{ text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }}
td.quiet {{ overflow-wrap: anywhere; }}
.clips {{ display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 14rem), 1fr)); gap: 1.5rem; }}
.clips.wide {{ grid-template-columns: repeat(auto-fill, minmax(min(100%, 30rem), 1fr)); }}
figure {{ min-width: 0; }}
figcaption {{ font-size: .8125rem; line-height: 1.35; color: var(--quiet); margin-top: .4rem;
  overflow-wrap: anywhere; }}
img {{ display: block; width: 100%; height: auto; border-radius: 3px; }}
.plot {{ background: #ffffff; padding: .5rem; border-radius: 3px; }}
footer {{ margin-top: 4rem; padding-top: 1rem; border-top: 1px solid var(--line); color: var(--quiet);
  font-size: .8125rem; overflow-wrap: anywhere; }}
</style>
</head>
<body>
<header>
<h1>{title}</h1>
<p class="quiet">{lede}</p>
</header>
{sections}
<footer>{footer}</footer>
</body>
</html>
"""


def build_page(result: dict[str, Any], figures: Mapping[str, Sequence[tuple[str, bytes]]], plot: bytes) -> str:
    """Return the page.

    Args:
        result: of `benchmarks.quality.command`.
        figures: heading -> (caption, animated WebP file) of each clip.
        plot: the plot, a PNG file.
    """
    sections = [_section("In short", _table([], summary(result), quiet_column=2))]
    distances = _table(headings(result), set_rows(result))
    sections.append(_section("Distances and floors", distances + f'<p class="quiet">{escape(NOTES)}</p>'))
    for heading, clips in figures.items():
        is_wide = heading != "From text" and "real clip" not in heading
        items = "".join(_figure(caption, data) for caption, data in clips)
        sections.append(_section(heading, f'<div class="clips{" wide" if is_wide else ""}">{items}</div>'))
    if text := result["parts"].get("text"):
        classes = text["probe"]["classes"]
        rows = [
            (name, *(str(n or "") for n in counts)) for name, counts in zip(classes, text["confusion"], strict=True)
        ]
        sections.append(_section("Asked for (rows), named by the probe (columns)", _table(["", *classes], rows)))
    sections.append(_section("Plot", f'<img class="plot" src="{_uri(plot, "png")}" alt="distances and drift">'))
    footage, machine = result["footage"], result["machine"]
    lede = (
        f"{result['kind'].capitalize()} {result['key']}. {footage['clips']} held-out clips of {footage['videos']} "
        f"videos ({footage['frames_text']}), {footage['holdout_text']}. {result['engine']} {result['precision']}."
    )
    footer = (
        f"{machine['cpu']}, {machine['cores']} cores; {machine['os']}; commit {machine['commit'] or 'none'}. Clips "
        "marked real are footage and keep their own licences."
    )
    return _PAGE.format(
        title=escape(f"Quality of {result['name']}"),
        lede=escape(lede),
        sections="\n".join(sections),
        footer=f"{escape(result['command'])}<br>{escape(footer)}",
    )


def _section(heading: str, body: str) -> str:
    return f"<section><h2>{escape(heading)}</h2>\n{body}</section>"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], quiet_column: int | None = None) -> str:
    """Return a table of text, numbers right-aligned; rows of floors, and one column if it is given, are grey."""
    columns = "".join(f"<th{' class=number' * bool(number)}>{escape(name)}</th>" for number, name in enumerate(head))
    body = ""
    for first, *rest in rows:
        cells = "".join(
            f'<td class="{"quiet" if number == quiet_column else "number"}">{escape(cell)}</td>'
            for number, cell in enumerate(rest, 1)
        )
        body += f"<tr{' class=floor' * first.startswith('floor')}><th>{escape(first)}</th>{cells}</tr>"
    return f'<div class="scroll"><table><thead><tr>{columns}</tr></thead><tbody>{body}</tbody></table></div>'


def _figure(caption: str, data: bytes) -> str:
    text = escape(caption)
    image = f'<img src="{_uri(data, "webp")}" alt="{text}" loading="lazy">'
    return f"<figure>{image}<figcaption>{text}</figcaption></figure>"


def _uri(data: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
