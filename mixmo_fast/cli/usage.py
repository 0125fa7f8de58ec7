"""What is wrong with a command line, in a line like that of any other error: what was found, what to write instead."""

import difflib
import re
from collections.abc import Sequence
from typing import Any

import typer

from mixmo_fast.cli.help_text import PROGRAM, name_of
from mixmo_fast.cli.spellings import instead_of, todays
from mixmo_fast.errors import shorten

# Whatever typer takes its exceptions from, which differs between versions.
UsageError: Any = typer.BadParameter.__mro__[1]

_NEAR = 0.75  # of `difflib`'s likeness, which the hyphens in front raise
_IN_WORDS = {"valid integer": "a whole number", "valid number": "a number", "valid float": "a number"}


def in_a_line(error: Any, words: Sequence[str]) -> str:
    """An error of typer's parser, retold.

    Args:
        error: A `UsageError`.
        words: The command line, without the program's name.
    """
    command = error.ctx.command_path if error.ctx is not None else PROGRAM
    return f"{_problem(error, words)}; see {command} --help"


def _problem(error: Any, words: Sequence[str]) -> str:
    if type(error).__name__ == "NoSuchOption":
        return _unknown(error.option_name, error, words)
    parameter = getattr(error, "param", None)
    extra = re.search(r"unexpected extra argument\S* \((.*)\)", error.message) if parameter is None else None
    if extra:
        name, _, value = extra[1].partition("=")
        instead = instead_of(name.lstrip("-"), _options_of(error), value) if value else None
        return f"{shorten(extra[1])}: nothing more is expected" + (f"; {instead}" if instead else "")
    if parameter is None:
        said = error.format_message().rstrip(".?").replace(". ", "; ")
        return f"{said[:1].lower()}{said[1:]}".replace("Did you mean", "did you mean")
    shown = name_of(parameter)
    if type(error).__name__ == "MissingParameter":
        return f"{shown}: missing; {parameter.help or ''}".rstrip(" .;")
    value = _value_of(parameter.opts, words)
    allowed = [said for theirs, said in _IN_WORDS.items() if theirs in error.message]
    if value is None or not allowed:
        return f"{shown}: {error.message}".rstrip(".")
    return f"{shown}: found {value!r}, allowed: {allowed[0]}"


def _unknown(name: str, error: Any, words: Sequence[str]) -> str:
    """An option that there is not: what to do instead, or the nearest one."""
    typed = [word.partition("=")[0] for word in words if word.startswith("-")]
    if not name.startswith("--"):  # the parser takes `-lr` for `-l` and more
        name = next((word for word in typed if word.startswith(name)), name)
    name = next((word for word in typed if todays(word) == name), name)
    options = _options_of(error)
    instead = instead_of(name.lstrip("-"), options, _value_of([name], words))
    if instead:
        return f"{name}: no such option; {instead}"
    near = difflib.get_close_matches(name, options, 1, _NEAR)
    return f"{name}: no such option" + (f", did you mean {near[0]}" if near else "")


def _options_of(error: Any) -> list[str]:
    parameters = error.ctx.command.params if error.ctx is not None else ()
    return [option for parameter in parameters for option in parameter.opts if option.startswith("--")]


def _value_of(names: Sequence[str], words: Sequence[str]) -> str | None:
    """What stands behind an option on the command line; None: nothing."""
    for word, after in zip(words, [*words[1:], None], strict=True):
        name, has_value, value = word.partition("=")
        if name in names:
            return value if has_value else after if after is not None and not after.startswith("--") else None
    return None
