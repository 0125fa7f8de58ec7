"""The parts that a page is made of: one HTML file that opens from disk, without a network, in light and dark.

Text comes in as plain `str` and is escaped here; `Html` is what has been. A page is styled for a phone as for a desk,
for the keyboard, for screen readers and for print, and is the same bytes for the same content.
"""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from itertools import groupby
from textwrap import dedent
from typing import NewType
from urllib.parse import quote

from mixmo_fast.report.colours import DARK, LIGHT
from mixmo_fast.report.page_style import SCRIPT, STYLE, policy

Html = NewType("Html", str)
"""Markup that is safe to put on a page."""

_CONTENTS_FROM = 4  # sections, from which on a page has a table of contents


@dataclass(frozen=True)
class Section:
    """A part of a page under a heading of its own.

    Attributes:
        anchor: Its id, lowercase letters and hyphens.
        heading: Plain text.
        parts: One after the other.
    """

    anchor: str
    heading: str
    parts: tuple[Html, ...]


@dataclass(frozen=True)
class KeyNumber:
    """A number that is worth a card.

    Attributes:
        label: What it is called.
        value: As it is to be read.
        says: Its definition, or where it is from.
    """

    label: str
    value: str
    says: str


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        title: Its heading.
        is_number: Whether it is set to the right, and sorted by its cells' `value`.
        is_name: Whether its cells stay on one line each, as names that hyphens would break do.
    """

    title: str
    is_number: bool = False
    is_name: bool = False


@dataclass(frozen=True)
class Cell:
    """A cell of a table.

    Attributes:
        text: Plain text.
        value: What it is sorted by in a column of numbers; None stays last.
        link: Where it leads, relative to the page.
        marks: Set off behind the text, each in a frame of its own: what a reader must not overlook.
    """

    text: str
    value: float | None = None
    link: str | None = None
    marks: tuple[str, ...] = ()


def document(title: str, lead: Sequence[str], sections: Sequence[Section]) -> str:
    """A whole page.

    Args:
        title: Heading and title.
        lead: Paragraphs below it.
        sections: With a table of contents from four on; those without parts are left out.
    """
    sections = [section for section in sections if section.parts]
    links = [f'<li><a href="#{one.anchor}">{escape(one.heading)}</a></li>' for one in sections]
    contents = f'<nav aria-label="Contents">\n<ul>\n{_lines(links)}\n</ul>\n</nav>\n'
    bodies = [
        f'<section aria-labelledby="{one.anchor}">\n<h2 id="{one.anchor}">{escape(one.heading)}</h2>\n'
        f"{_lines(one.parts)}\n</section>"
        for one in sections
    ]
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy()}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta name="theme-color" media="(prefers-color-scheme: light)" content="{LIGHT.paper}">\n'
        f'<meta name="theme-color" media="(prefers-color-scheme: dark)" content="{DARK.paper}">\n'
        f'<link rel="icon" href="data:,">\n<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n'
        f"<header>\n<h1>{escape(title)}</h1>\n"
        + "".join(f'<p class="lead">{escape(line)}</p>\n' for line in lead)
        + f"{contents if len(sections) >= _CONTENTS_FROM else ''}</header>\n<main>\n{_lines(bodies)}\n</main>\n"
        f"<script>{SCRIPT}</script>\n</body>\n</html>\n"
    )


def paragraph(text: str) -> Html:
    """A paragraph."""
    return Html(f"<p>{escape(text)}</p>")


def prose(text: str) -> Html:
    """A text of several lines: a paragraph each, but lines that begin with two spaces stay as they are, together."""
    parts = []
    for is_table, lines in groupby(text.splitlines(), key=lambda line: line.startswith("  ")):
        if is_table:
            parts.append(code(dedent("\n".join(lines)), "table"))
        else:
            parts += [paragraph(line) for line in lines if line.strip()]
    return Html(_lines(parts))


def subheading(text: str) -> Html:
    """A heading within a section."""
    return Html(f"<h3>{escape(text)}</h3>")


def code(text: str, label: str) -> Html:
    """Text as it is, in a box that scrolls by itself; `label` names it for screen readers."""
    return Html(f'<pre tabindex="0" role="region" aria-label="{escape(label)}"><code>{escape(text)}</code></pre>')


def cards(numbers: Sequence[KeyNumber]) -> Html:
    """Key numbers, each with what it means."""
    divs = [
        f'<div><dt>{escape(one.label)}</dt><dd class="value">{escape(one.value)}</dd>'
        f'<dd class="says">{escape(one.says)}</dd></div>'
        for one in numbers
    ]
    return Html(f'<dl class="cards">\n{_lines(divs)}\n</dl>')


def table(caption: str, heads: Sequence[Column], rows: Sequence[Sequence[Cell]], sortable: bool = False) -> Html:
    """A table whose first column heads its rows, in a box that scrolls by itself where it is too wide.

    Args:
        caption: Above it.
        heads: Of its columns, as many as each row has cells.
        rows: From top to bottom.
        sortable: Whether the headings become buttons that sort by their column.

    Raises:
        ValueError: When a row has another number of cells.
    """
    if any(len(row) != len(heads) for row in rows):
        raise ValueError(f"a row without a cell for each of {len(heads)} columns")
    kind = ' class="sortable"' if sortable else ""
    top = "".join(f'<th scope="col"{_kind(one)}>{escape(one.title)}</th>' for one in heads)
    body = ["<tr>" + "".join(map(_cell, row, heads, range(len(row)))) + "</tr>" for row in rows]
    return Html(
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(caption)}">\n<table{kind}>\n'
        f"<caption>{escape(caption)}</caption>\n<thead><tr>{top}</tr></thead>\n<tbody>\n{_lines(body)}\n"
        "</tbody>\n</table>\n</div>"
    )


def folded(summary: str, content: Html) -> Html:
    """Content that is shown when its summary is clicked."""
    return Html(f"<details>\n<summary>{escape(summary)}</summary>\n{content}\n</details>")


def figure(light_svg: str, dark_svg: str, size: tuple[float, float], alt: str, caption: str) -> Html:
    """A figure that changes with the reader's theme; on paper it is the light one.

    Args:
        light_svg: An SVG element.
        dark_svg: The same in the dark theme.
        size: Width and height in CSS pixels, for its proportions.
        alt: What it shows, in words and numbers.
        caption: How to read it.
    """
    light, dark = (_data_url("image/svg+xml", svg.encode()) for svg in (light_svg, dark_svg))
    width, height = size
    return Html(
        f'<figure><picture><source media="screen and (prefers-color-scheme: dark)" srcset="{dark}">'
        f'<img src="{light}" width="{width:.0f}" height="{height:.0f}" alt="{escape(alt)}"></picture>'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )


def columns(parts: Sequence[Html]) -> Html:
    """Figures and tables beside each other, in as many columns as fit."""
    return Html(f'<div class="columns">\n{_lines(parts)}\n</div>')


def stack(parts: Sequence[Html]) -> Html:
    """Parts below each other that take one place among columns."""
    return Html(f"<div>\n{_lines(parts)}\n</div>")


def picture(png: bytes, size: tuple[int, int], alt: str, caption: str) -> Html:
    """A picture in its own size, in a box that scrolls by itself; the arguments are those of `figure`."""
    width, height = size
    return Html(
        f'<figure class="wide"><div class="scroll" tabindex="0" role="region" aria-label="Picture, scrolls sideways">'
        f'<img src="{_data_url("image/png", png)}" width="{width}" height="{height}" alt="{escape(alt)}"></div>'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )


def _cell(cell: Cell, column: Column, place: int) -> str:
    tag, scope = ("th", ' scope="row"') if place == 0 else ("td", "")
    order = f' data-sort="{"" if cell.value is None else repr(float(cell.value))}"' if column.is_number else ""
    text = escape(cell.text)
    if cell.link is not None:
        text = f'<a href="{quote(cell.link)}">{text}</a>'
    text += "".join(f' <span class="mark">{escape(mark)}</span>' for mark in cell.marks)
    return f"<{tag}{scope}{_kind(column)}{order}>{text}</{tag}>"


def _kind(column: Column) -> str:
    return ' class="number"' if column.is_number else ' class="name"' if column.is_name else ""


def _data_url(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def _lines(parts: Sequence[str]) -> str:
    return "\n".join(parts)
