"""A page that says what was found: one file, without anything from elsewhere."""

from __future__ import annotations

import base64
import os
from collections.abc import Sequence
from html import escape
from pathlib import Path

from verify.evidence import Section
from verify.frames import is_live
from verify.report import VideoReport

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 56rem; margin: 2rem auto; padding: 0 1rem; color: #222; }
h1 { font-size: 1.4rem; } h2 { font-size: 1.1rem; margin-top: 2rem; }
.answer { padding: 1rem; border-radius: .5rem; background: #eee; font-size: 1.2rem; }
.marked { background: #fde9c8; }
figure { display: inline-block; margin: 0 1rem 1rem 0; } figcaption { font-size: .85rem; color: #555; }
.frame { position: relative; width: 20rem; } .frame img { width: 100%; display: block; }
.map { position: absolute; inset: 0; display: grid; } .map i { outline: 1px solid #fff3; }
.map .clear { background: #f80a; } .map .weak { background: #f805; }
.time { display: flex; height: 1.5rem; margin: 1rem 0 .25rem; } .time i { flex: 1; background: #ccc; }
.time .clear { background: #f80; } .key { font-size: .85rem; color: #555; }
@media (prefers-color-scheme: dark) { body { background: #181818; color: #ddd; } .answer { background: #333; }
  .marked { background: #5a3a00; } figcaption, .key { color: #aaa; } }
"""


def check_page(source: str, file: Path) -> None:
    """Check where a page is to be written, before the source is read.

    Raises:
        ValueError: it would replace the source, or does not end in .html.
    """
    is_same = file.absolute() == Path(source).absolute()
    if is_same or (not is_live(source) and file.exists() and Path(source).exists() and file.samefile(source)):
        raise ValueError(
            f"--page {file} is the source itself, which it would replace: give another file, e.g. page.html"
        )
    if file.suffix.lower() != ".html":
        raise ValueError(f"--page must end in .html, got {file}: give e.g. page.html")


def to_page(report: VideoReport, found: Sequence[Section]) -> str:
    """Return the page as HTML."""
    answer = "These frames were made or changed by a generator." if report.is_marked else "No mark was found."
    kind = "answer marked" if report.is_marked else "answer"
    payloads = ", ".join(report.payloads)
    parts = [
        "<!doctype html><html lang='en'><meta charset='utf-8'>",
        "<meta name='viewport' content='width=device-width, initial-scale=1'>",
        f"<title>{escape(report.source)}: Everframe verify</title><style>{_STYLE}</style>",
        f"<h1>{escape(report.source)}</h1><p class='{kind}'>{answer}",
        f"<br>Payload {escape(payloads)}</p>" if payloads else "</p>",
    ]
    if report.is_marked:
        parts += [_timeline(report), _pictures(report)]
    for section in found:
        parts.append(f"<h2>{escape(section.title)}</h2>")
        parts += [f"<p>{escape(line)}</p>" for line in section.lines]
    return "\n".join(parts) + "\n"


def write_page(report: VideoReport, found: Sequence[Section], file: Path) -> None:
    """Write the page under another name and rename it, so that it is complete or absent.

    Raises:
        OSError: it cannot be written.
    """
    beside = file.with_name(f".{file.stem}.{os.getpid()}{file.suffix}")
    try:
        beside.write_text(to_page(report, found), encoding="utf-8")
        beside.replace(file)
    finally:
        beside.unlink(missing_ok=True)


def _timeline(report: VideoReport) -> str:
    cells = "".join(f"<i class='{'' if one.finding is None else 'clear'}'></i>" for one in report.windows)
    end_s = report.windows[-1].end_s
    return f"<div class='time'>{cells}</div><p class='key'>0 to {end_s:.1f} s; orange where the mark was found</p>"


def _pictures(report: VideoReport) -> str:
    figures = []
    for at_s, jpeg, number in report.thumbnails:
        finding = report.windows[number].finding if number < len(report.windows) else None
        squares = ""
        if finding is not None:
            rows, columns = finding.places.shape
            grid = f"grid-template: repeat({rows}, 1fr) / repeat({columns}, 1fr)"
            kinds = ["clear" if value > 6 else "weak" if value > 3 else "" for value in finding.places.ravel()]
            squares = f"<div class='map' style='{grid}'>{''.join(f'<i class={kind!r}></i>' for kind in kinds)}</div>"
        picture = f"<img alt='frame' src='data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}'>"
        caption = f"{at_s:.1f} s" + ("" if finding is None else f", payload {finding.payload}")
        figures.append(
            f"<figure><div class='frame'>{picture}{squares}</div><figcaption>{caption}</figcaption></figure>"
        )
    return "".join(figures) + "<p class='key'>orange: parts of the frame in which the mark is clear, or weak</p>"
