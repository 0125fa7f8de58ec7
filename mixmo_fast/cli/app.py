"""The command line: `mixmo-fast doctor`, `convert`, `preview`, `train`, `evaluate` and more.

Each command's function declares its options and passes them on by name. Everything heavy is imported inside these
functions, so that `--help` answers at once.
"""

import inspect
import io
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from itertools import zip_longest
from typing import Annotated, Any, NoReturn

import typer

from mixmo_fast import __version__
from mixmo_fast.cli import config, data, doctor, evaluate, predict, reproduce, train, usage
from mixmo_fast.cli.benchmark import benchmark
from mixmo_fast.cli.help_text import PROGRAM, HelpOption, help_of
from mixmo_fast.cli.mendable import in_a_line, require_a_folder
from mixmo_fast.cli.options import WHEN_ALONE
from mixmo_fast.cli.spellings import todays
from mixmo_fast.errors import DivergedError, printable

DIVERGED = 3
"""Exit code of a command whose network has diverged; 2 is that of all else that a user can mend."""

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells give it."""

DebugOption = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]


def _as_command(work: Callable[..., None]) -> Callable[..., None]:
    """A command that does some work: with `--debug`, and with what a user can mend as one line and exit code 2."""

    @wraps(work)
    def command(*, debug: bool, help: bool, **options: Any) -> None:
        try:
            require_a_folder()
            work(**options)
        except typer.Exit as ended:  # typer would not tell it from its own end by Ctrl-C, of which `main` says a line
            sys.exit(ended.exit_code)
        except Exception as error:
            line = in_a_line(error)
            if line is None or debug:
                raise
            _end(line, DIVERGED if isinstance(error, DivergedError) else 2)

    asked, added = inspect.signature(work), {"debug": DebugOption, "help": HelpOption}
    parameters = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=False, annotation=annotation)
        for name, annotation in added.items()
    ]
    wrapped: Any = command
    wrapped.__signature__ = asked.replace(parameters=[*asked.parameters.values(), *parameters])
    command.__annotations__ = work.__annotations__ | added
    return command


def _end(line: str, code: int) -> NoReturn:
    """Ends with a code and a line in which whatever could steer a terminal is spelt out."""
    print(f"{PROGRAM}: {printable(line)}", file=sys.stderr)
    sys.exit(code)


_SETTINGS = {"token_normalize_func": todays}
app = typer.Typer(
    name=PROGRAM,
    invoke_without_command=True,
    add_help_option=False,
    pretty_exceptions_enable=False,
    context_settings=_SETTINGS,
)


def _say_version(wanted: bool) -> None:
    if wanted:
        print(f"{PROGRAM} {__version__}")
        raise typer.Exit


def _help_if_alone(context: typer.Context) -> None:
    """The help of words that have a command behind them, where there is none."""
    if context.invoked_subcommand is None:
        print(help_of(context), end="", file=sys.stderr)
        raise typer.Exit(2)


@app.callback()
def _program(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_say_version, is_eager=True, help="Say which version this is.")
    ] = False,
    help: HelpOption = False,
) -> None:
    """MixMo: several subnetworks in one network, trained at the speed of the hardware."""
    _help_if_alone(context)


def _add_group(name: str, help: str) -> typer.Typer:
    """A word that several commands have in front."""
    group = typer.Typer(name=name, help=help, invoke_without_command=True, add_help_option=False)

    @group.callback()
    def alone(context: typer.Context, help: HelpOption = False) -> None:
        _help_if_alone(context)

    app.add_typer(group)
    return group


def _add(work: Callable[..., None], name: str | None = None, group: typer.Typer = app, epilog: str = "") -> None:
    """A command, called as the function that does its work if it has no other name."""
    group.command(name, epilog=epilog, add_help_option=False, context_settings=_SETTINGS)(_as_command(work))


_add(doctor.doctor)
_add(data.convert)
_add(data.preview)
_add(train.train, epilog=train.FLAGS_OF_THE_AUTHORS)
_add(evaluate.evaluate)
_add(evaluate.inspect)
_add(predict.predict)
_add(predict.export)
_add(reproduce.reproduce)
_add(reproduce.report)
_add(reproduce.status)
_add(benchmark)

_config = _add_group("config", "Make, translate and explain configurations.")
_add(config.new, "new", _config)
_add(config.import_, "import", _config)
_add(config.explain, "explain", _config)

_checkpoint = _add_group("checkpoint", "Hand checkpoints on to other programs.")
_add(train.export, "export", _checkpoint)


def _spelt_out(arguments: Sequence[str]) -> list[str]:
    """The arguments with the value of each option that stands alone though it may have one."""
    spelt = []
    for word, after in zip_longest(arguments, arguments[1:]):
        spelt.append(word)
        meant = WHEN_ALONE.get(todays(word))
        if meant is not None and (after is None or after.startswith("-")):
            spelt.append(meant)
    return spelt


def _take_whatever_streams_there_are() -> None:
    """Prints with replacements where an encoding lacks a character, and nowhere where a stream is closed."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # the file that is opened next would get its number, and what libraries print with it
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115, PTH123
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


@contextmanager
def _noting_interrupts() -> Iterator[list[int]]:
    """What comes of Ctrl-C in the block, noted, for torch makes other errors of one that comes while it is imported."""
    noted: list[int] = []

    def note(number: int, frame: Any) -> None:
        noted.append(number)
        signal.default_int_handler(number, frame)

    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:  # somebody else deals with it, or ignores it
        yield noted
        return
    signal.signal(signal.SIGINT, note)
    try:
        yield noted
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _run(words: list[str]) -> int | None:
    """Runs a command; the exit code of `typer.Exit` outside of one."""
    with _noting_interrupts() as interrupts:
        try:
            return typer.main.get_command(app).main(words, prog_name=PROGRAM, standalone_mode=False)
        except Exception as error:
            if interrupts:
                raise KeyboardInterrupt from error
            raise


def main() -> None:
    """Runs the command of the command line."""
    _take_whatever_streams_there_are()
    words = _spelt_out(sys.argv[1:])
    if "" in words:  # which as a path would be the folder that one is in
        _end("found an empty word, allowed: none; is a variable of the shell not set?", 2)
    try:
        code = _run(words)
        if code == INTERRUPTED:
            raise KeyboardInterrupt
        sys.exit(code or 0)  # of `typer.Exit`; a command itself gives none
    except usage.UsageError as error:
        _end(usage.in_a_line(error, words), 2)
    except (typer.Abort, KeyboardInterrupt):  # Ctrl-C before a command deals with it
        _end("interrupted", INTERRUPTED)
    except BrokenPipeError:  # whoever read the output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        sys.exit(1)


if __name__ == "__main__":
    main()
