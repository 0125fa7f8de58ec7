"""What is wrong with a command line, in a line like that of any other error: what was found, what to write instead."""

import difflib
from collections.abc import Sequence
from typing import Any

import typer

# Whatever typer takes its exceptions from, which differs between versions.
UsageError: Any = typer.BadParameter.__mro__[1]

# What other programs call it, where the configuration's own word is not what they end with.
_ELSEWHERE = {
    "batch-size": "batch.rows",
    "learning-rate": "optimizer.lr",
    "wd": "optimizer.weight_decay",
    "model": "network.kind",
    "arch": "network.kind",
    "amp": "step.precision",
    "num-epochs": "schedule.epochs",
    "dataset": "data.dataset",
}
_IN_WORDS = {"valid integer": "a whole number", "valid number": "a number", "valid float": "a number"}


def in_a_line(error: Any, words: Sequence[str]) -> str:
    """An error of typer's parser, retold.

    Args:
        error: A `UsageError`.
        words: The command line, without the program's name.
    """
    command = error.ctx.command_path if error.ctx is not None else "mixmo-fast"
    return f"{_problem(error, words)}; see {command} --help"


def _problem(error: Any, words: Sequence[str]) -> str:
    if type(error).__name__ == "NoSuchOption":
        return _unknown(error.option_name, error, words)
    parameter = getattr(error, "param", None)
    if parameter is None:
        said = error.format_message().rstrip(".?").replace(". ", "; ")
        return f"{said[:1].lower()}{said[1:]}".replace("Did you mean", "did you mean")
    shown = max(parameter.opts, key=len)
    if type(error).__name__ == "MissingParameter":
        return f"{shown}: missing; {parameter.help or ''}".rstrip(" .;")
    value = _value_of(parameter.opts, words)
    allowed = [said for theirs, said in _IN_WORDS.items() if theirs in error.message]
    if value is None or not allowed:
        return f"{shown}: {error.message}".rstrip(".")
    return f"{shown}: found {value!r}, allowed: {allowed[0]}"


def _unknown(name: str, error: Any, words: Sequence[str]) -> str:
    """An option that there is not: the nearest one, or the key of the configuration that it stands for."""
    parameters = error.ctx.command.params if error.ctx is not None else ()
    options = [option for parameter in parameters for option in parameter.opts if option.startswith("--")]
    key = _key_of(name.lstrip("-")) if "--set" in options else None
    if key:
        return f"{name}: no such option; write --set {key}={_value_of([name], words) or 'VALUE'}"
    near = difflib.get_close_matches(name, options, 1)
    return f"{name}: no such option" + (f", did you mean {near[0]}" if near else "")


def _key_of(word: str) -> str | None:
    """The configuration's key that an option of another program stands for: `lr`, `batch-size`, `epochs`."""
    from mixmo_fast.config.words import known_keys

    word = word.replace("_", "-")
    if word in _ELSEWHERE:
        return _ELSEWHERE[word]
    same = [key for key in known_keys() if "." in key and word in (key, key.rpartition(".")[2].replace("_", "-"))]
    return same[0] if len(same) == 1 else None


def _value_of(names: Sequence[str], words: Sequence[str]) -> str | None:
    """What stands behind an option on the command line; None: nothing."""
    for word, after in zip(words, [*words[1:], None], strict=True):
        name, has_value, value = word.partition("=")
        if name in names:
            return value if has_value else after if after is not None and not after.startswith("--") else None
    return None
