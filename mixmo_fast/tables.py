"""Tables that are whole on the terminal they are printed on.

A number is never cut. Names that are too long lose their middle where they still differ then, prose is wrapped, and
where that is not enough the columns that matter least are left out and a line below counts them. In a pipe or a log,
whose lines have no end, and with `--wide`, every column is there.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from mixmo_fast.errors import printable

_LEAST = {"name": 20, "prose": 20}  # characters, of what may be narrower than it is
_MOST = 40  # likewise, of names that are shortened only where they still differ
_BARELY = 4  # likewise, where even the least does not fit
_WIDEST = 160  # characters of a line in which prose is wrapped where nothing has to be

Cell = str | Text


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        head: Above it; it may take several lines.
        kind: A `number`, on the right, and a `word` are shown whole; a `name` may lose its middle; `prose` may take
            several lines.
        rank: Of those that do not fit the highest go first, and 0 never.
    """

    head: str
    kind: Literal["number", "word", "name", "prose"] = "number"
    rank: int = 0


@dataclass(frozen=True)
class Sheet:
    """What a table says, before anybody knows how wide it may be.

    Attributes:
        columns: From the left.
        rows: A cell for each column.
        title: Above the table; empty for none.
        notes: Lines below it.
        rules: The numbers of the rows, from 0, that have a line below them.
    """

    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    title: str = ""
    notes: tuple[str, ...] = ()
    rules: frozenset[int] = frozenset()


def print_table(console: Console, sheet: Sheet, wide: bool = False) -> None:
    """Prints a table as wide as the terminal; all of it where there is none, or where `wide` asks for it."""
    room = console.width if console.is_terminal and not wide else None
    table, missing = fitted(sheet, room)
    if sheet.title:
        console.print(Text(printable(sheet.title), style="bold"), soft_wrap=room is None)
    console.print(table, soft_wrap=False, crop=False)
    more = [f"{missing} more column{'s' * (missing > 1)}: --wide"] if missing else []
    for line in (*sheet.notes, *more):
        console.print(Text(printable(line), style="dim"), soft_wrap=room is None)


def fitted(sheet: Sheet, room: int | None) -> tuple[Table, int]:
    """A table that can be printed, without title and notes, and the number of columns that it lacks.

    Args:
        sheet: What it says.
        room: Characters of a line; None: as many as it takes.
    """
    texts = [[_text(row[place]) for row in sheet.rows] for place in range(len(sheet.columns))]
    least = [_least(column, cells, room is None) for column, cells in zip(sheet.columns, texts, strict=True)]
    shown = list(range(len(least)))
    while room is not None and _width([least[place] for place in shown]) > room:
        last = max(shown, key=lambda place: (sheet.columns[place].rank, place))
        if sheet.columns[last].rank == 0:
            break
        shown.remove(last)
    columns, cells = [sheet.columns[place] for place in shown], [texts[place] for place in shown]
    widths = _spread([least[place] for place in shown], columns, cells, room)
    table = Table(width=_width(widths))
    for column, width in zip(columns, widths, strict=True):
        justify: Literal["left", "right"] = "right" if column.kind == "number" else "left"
        table.add_column(Text(column.head), width=width, justify=justify, overflow="fold")
    for place, width in enumerate(widths):
        names = [cell.plain for cell in cells[place]]
        if columns[place].kind == "name" and _differ(names, width):  # or else they are whole, in several lines
            short = zip(shortened(names, width), cells[place], strict=True)
            cells[place] = [Text(name, style=cell.style) for name, cell in short]
    for number, row in enumerate(zip(*cells, strict=True)):
        table.add_row(*row, end_section=number in sheet.rules)
    return table, len(least) - len(shown)


def shortened(names: Sequence[str], width: int) -> list[str]:
    """Names that fit a width, the middle of the long ones left out, cut where most of them still differ."""
    different = dict.fromkeys(names)
    best: dict[str, str] = {}
    for front in sorted(range(width), key=lambda front: abs(2 * front + 1 - width)):
        cut = {name: _without_middle(name, front, width) for name in different}
        if len(set(cut.values())) > len(set(best.values())):
            best = cut
        if len(set(best.values())) == len(different):
            break
    return [best.get(name, name) for name in names]


def _without_middle(name: str, front: int, width: int) -> str:
    """`exp_cifar100_…_bar4`, of which `front` characters are before the dots."""
    if cell_len(name) <= width:
        return name
    first, last = name[:front], name[max(0, len(name) - (width - 1 - front)) :]
    while cell_len(first) > front:  # characters of Asian scripts take the room of two
        first = first[:-1]
    while cell_len(last) > width - 1 - front:
        last = last[1:]
    return f"{first}…{last}"


def _least(column: Column, cells: Sequence[Text], unbounded: bool) -> int:
    """The width below which a column had better be left out; names must still differ from each other."""
    natural = max((_longest(cell.plain.split("\n")) for cell in cells), default=0)
    head = _longest(column.head.split())
    if column.kind not in _LEAST or (column.kind == "name" and unbounded):
        return max(natural, head)
    least = min(natural, _LEAST[column.kind])
    if column.kind == "name":
        names = [cell.plain for cell in cells]
        least = next((width for width in range(least, min(natural, _MOST) + 1) if _differ(names, width)), least)
    return max(least, head)


def _differ(names: Sequence[str], width: int) -> bool:
    """Whether different names are still that once they are shortened."""
    different = list(dict.fromkeys(names))
    return len(set(shortened(different, width))) == len(different)


def _spread(
    least: Sequence[int], columns: Sequence[Column], cells: Sequence[Sequence[Text]], room: int | None
) -> list[int]:
    """The widths of columns, for which what is left of the room goes where most is missing."""
    widths = list(least)
    natural = [
        max(cell_len(column.head), *(_longest(cell.plain.split("\n")) for cell in own), 0)
        for column, own in zip(columns, cells, strict=True)
    ]
    for _ in range((room or _WIDEST) - _width(widths)):
        place = max(range(len(widths)), key=lambda place: natural[place] - widths[place])
        if natural[place] <= widths[place]:
            break
        widths[place] += 1
    narrower = [place for place, column in enumerate(columns) if column.kind in _LEAST]
    while room is not None and _width(widths) > room and narrower:
        place = max(narrower, key=lambda place: widths[place])
        if widths[place] <= _BARELY:
            break
        widths[place] -= 1
    return widths


def _width(widths: Sequence[int]) -> int:
    """Of a table: a space on both sides of each cell, and lines between and around them."""
    return sum(widths) + 3 * len(widths) + 1


def _longest(parts: Sequence[str]) -> int:
    return max(map(cell_len, parts), default=0)


def _text(cell: Cell) -> Text:
    """A cell in which whatever could steer a terminal is spelt out; rich lets some of it pass."""
    words, style = (cell, "") if isinstance(cell, str) else (cell.plain, cell.style)
    return Text("\n".join(map(printable, words.split("\n"))), style=style)
