"""What is said while something is done: a line that stays, and one that says what is being waited for."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console

from mixmo_fast.errors import printable


def say(console: Console, line: str) -> None:
    """Prints a line, however long it is; whatever in a name could steer a terminal is spelt out."""
    console.print(printable(line), highlight=False, markup=False, soft_wrap=True)


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

    with console.status(escape(printable(what))):
        yield
