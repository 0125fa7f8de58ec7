"""What is said while something is done: a line that stays, and one that says what is being waited for."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console


def say(console: Console, line: str) -> None:
    """Prints a line as it is, however long it is."""
    console.print(line, highlight=False, markup=False, soft_wrap=True)


@contextmanager
def waiting(console: Console, what: str) -> Iterator[None]:
    """Names what a block of code takes its time for: until it is over on a terminal, as a line elsewhere.

    A bar cannot be shown at the same time.

    Args:
        console: Where to.
        what: `drawing the page`, say.
    """
    if not console.is_terminal:
        say(console, f"{what} ...")
        yield
        return
    from rich.markup import escape

    with console.status(escape(what)):
        yield
