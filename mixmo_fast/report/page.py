"""A page is a template of `templates/`, filled in: one HTML file that opens from disk, without a network.

`page.html` is what all pages have, `parts.html` what they share, `run.html` and `comparison.html` are the two pages.
Whatever is put into a template is escaped there, and a name that it does not know is an error. A page is the same
bytes for the same content.
"""

import base64
import hashlib
from functools import cache
from itertools import groupby
from textwrap import dedent

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from mixmo_fast.errors import printable
from mixmo_fast.report.colours import DARK, LIGHT, Theme
from mixmo_fast.report.drawing import Plot, as_svg
from mixmo_fast.report.words import UNKNOWN, decimal, listing, percent, ratio_of_errors, whole
from mixmo_fast.training.progress import duration


def render(template: str, **content: object) -> str:
    """A whole page.

    Args:
        template: Its name in `templates/`.
        content: What the template names.
    """
    return templates().get_template(template).render(content)


@cache
def templates() -> Environment:
    """The templates, with all that they can call."""
    environment = Environment(
        loader=PackageLoader("mixmo_fast.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        finalize=visible,
    )
    shown = (data_url, decimal, duration, listing, paragraphs, percent, ratio_of_errors, sha256, svg_url, whole)
    environment.filters |= {function.__name__: function for function in shown}
    environment.globals |= {"light": LIGHT, "dark": DARK, "unknown": UNKNOWN}
    return environment


def visible(value: object) -> object:
    """What a template shows, with letters spelt out that would be invisible, or would turn the text around them.

    Lines stay lines; what the templates make themselves is left alone.
    """
    if isinstance(value, Markup) or not isinstance(value, str) or value.isprintable():
        return value
    return "\n".join(map(printable, value.split("\n")))


def paragraphs(text: str) -> list[tuple[bool, str]]:
    """The paragraphs of a text, a line each; lines that begin with two spaces are a table, and stay together.

    Returns:
        Whether it is a table, and its text.
    """
    parts = []
    for is_table, lines in groupby(text.splitlines(), key=lambda line: line.startswith("  ")):
        if is_table:
            parts.append((True, dedent("\n".join(lines))))
        else:
            parts += [(False, line) for line in lines if line.strip()]
    return parts


def svg_url(plot: Plot, theme: Theme) -> str:
    """A figure in a theme, as the address of an image."""
    return data_url(as_svg(plot, theme).encode(), "image/svg+xml")


def data_url(content: bytes, kind: str) -> str:
    """A file of a kind, `image/png`, as an address that holds all of it."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def sha256(script: str) -> str:
    """The checksum by which a content security policy knows a script."""
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
