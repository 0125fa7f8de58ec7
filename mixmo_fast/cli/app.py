"""The command line: `mixmo-fast doctor`, `convert`, `preview`, `train`, `evaluate` and more.

Each command's function declares its options and passes them on by name. Everything heavy is imported inside these
functions, so that `--help` answers at once.
"""

import inspect
import io
import os
import sys
from collections.abc import Callable, Sequence
from functools import wraps
from itertools import zip_longest
from typing import Annotated, Any

import typer

from mixmo_fast import __version__
from mixmo_fast.cli import config, data, doctor, evaluate, predict, reproduce, train, usage
from mixmo_fast.cli.benchmark import benchmark
from mixmo_fast.cli.mendable import in_a_line, require_a_folder
from mixmo_fast.cli.options import WHEN_ALONE
from mixmo_fast.errors import DivergedError, printable

DIVERGED = 3
"""Exit code of a command whose network has diverged; 2 is that of all else that a user can mend."""


def _as_command(work: Callable[..., None]) -> Callable[..., None]:
    """A command that does some work: with `--debug`, and with what a user can mend as one line and exit code 2."""

    @wraps(work)
    def command(*, debug: bool, **options: Any) -> None:
        try:
            require_a_folder()
            work(**options)
        except Exception as error:
            line = in_a_line(error)
            if line is None or debug:
                raise
            _end(line, DIVERGED if isinstance(error, DivergedError) else 2)

    annotation = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
    asked = inspect.signature(work)
    debug = inspect.Parameter("debug", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=annotation)
    wrapped: Any = command
    wrapped.__signature__ = asked.replace(parameters=[*asked.parameters.values(), debug])
    command.__annotations__ = work.__annotations__ | {"debug": annotation}
    return command


def _end(line: str, code: int) -> None:
    """Ends with a code and a line in which whatever could steer a terminal is spelt out."""
    print(f"mixmo-fast: {printable(line)}", file=sys.stderr)
    raise typer.Exit(code)


app = typer.Typer(
    name="mixmo-fast",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _say_version(wanted: bool) -> None:
    if wanted:
        print(f"mixmo-fast {__version__}")
        raise typer.Exit


@app.callback()
def _program(
    version: Annotated[
        bool, typer.Option("--version", callback=_say_version, is_eager=True, help="Say which version this is.")
    ] = False,
) -> None:
    """MixMo: several subnetworks in one network, trained at the speed of the hardware."""


app.command()(_as_command(doctor.doctor))
app.command()(_as_command(data.convert))
app.command()(_as_command(data.preview))
app.command(epilog=train.FLAGS_OF_THE_AUTHORS)(_as_command(train.train))
app.command()(_as_command(evaluate.evaluate))
app.command()(_as_command(evaluate.inspect))
app.command()(_as_command(predict.predict))
app.command()(_as_command(predict.export))
app.command()(_as_command(reproduce.reproduce))
app.command()(_as_command(reproduce.report))
app.command()(_as_command(reproduce.status))
app.command()(_as_command(benchmark))

config_app = typer.Typer(name="config", help="Make, translate and explain configurations.", no_args_is_help=True)
config_app.command("new")(_as_command(config.new))
config_app.command("import")(_as_command(config.import_))
config_app.command("explain")(_as_command(config.explain))
app.add_typer(config_app)

checkpoint_app = typer.Typer(name="checkpoint", help="Hand checkpoints on to other programs.", no_args_is_help=True)
checkpoint_app.command("export")(_as_command(train.export))
app.add_typer(checkpoint_app)


def _spelt_out(arguments: Sequence[str]) -> list[str]:
    """The arguments with the value of each option that stands alone though it may have one."""
    spelt = []
    for word, after in zip_longest(arguments, arguments[1:]):
        spelt.append(word)
        if word in WHEN_ALONE and (after is None or after.startswith("-")):
            spelt.append(WHEN_ALONE[word])
    return spelt


def _take_whatever_streams_there_are() -> None:
    """Prints with replacements where an encoding lacks a character, and nowhere where a stream is closed."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # the file that is opened next would get its number, and what libraries print with it
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115, PTH123
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def main() -> None:
    """Runs the command of the command line."""
    _take_whatever_streams_there_are()
    words = _spelt_out(sys.argv[1:])
    try:
        code = typer.main.get_command(app).main(words, prog_name="mixmo-fast", standalone_mode=False)
        sys.exit(code or 0)  # of `typer.Exit`; a command itself gives none
    except usage.UsageError as error:
        if type(error).__name__ == "NoArgsIsHelpError":
            error.show()
        else:
            print(f"mixmo-fast: {printable(usage.in_a_line(error, words))}", file=sys.stderr)
        sys.exit(2)
    except typer.Abort:  # Ctrl-C before a command deals with it
        sys.exit(130)
    except BrokenPipeError:  # whoever read the output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        sys.exit(1)


if __name__ == "__main__":
    main()
