"""What `--help` says, in at most 80 columns: arguments, options, and two examples that work.

Typer's own names Python's types, and squeezes names that are longer than it expects into columns of a few letters. Its
parser's objects are only read here.
"""

import inspect
from typing import Annotated, Any

import typer

from mixmo_fast.cli.examples import EXAMPLES
from mixmo_fast.cli.spellings import other_spellings

PROGRAM = "mixmo-fast"


def help_of(context: Any) -> str:
    """The help of the command, or group of commands, that a `Context` of typer's parser is of."""
    command, page = context.command, context.make_formatter()
    arguments = [one for one in command.params if one.param_type_name == "argument"]
    options = [one for one in command.params if one.param_type_name == "option" and not one.hidden]
    commands = getattr(command, "commands", {})
    page.write_usage(
        context.command_path,
        " ".join(["[OPTIONS]", *map(_in_usage, arguments), *(["COMMAND ..."] if commands else [])]),
    )
    page.write_paragraph()
    with page.indentation():
        page.write_text(inspect.cleandoc(command.help))
    for heading, rows in (
        ("Arguments", [(name_of(one), _explained(one)) for one in arguments]),
        ("Options", [(_spelt(one), _explained(one)) for one in options]),
        ("Commands", [(name, inspect.cleandoc(one.help).splitlines()[0]) for name, one in commands.items()]),
    ):
        if rows:
            with page.section(heading):
                page.write_dl(rows)
    if command.epilog:
        page.write(f"\n{command.epilog}\n")
    words = context.command_path.removeprefix(PROGRAM).strip()
    with page.section("Examples"):
        page.write("".join(f"  {PROGRAM} {example}\n" for example in EXAMPLES[words]))
    return page.getvalue()


def name_of(parameter: Any) -> str:
    """What a message calls an argument or an option: `CONFIG`, `--out`."""
    if parameter.param_type_name == "argument":
        return parameter.metavar or parameter.name.upper()
    return max(parameter.opts, key=len)


def _in_usage(argument: Any) -> str:
    name = name_of(argument) + ("" if argument.nargs == 1 else "...")
    return name if argument.required else f"[{name}]"


def _spelt(option: Any) -> str:
    """`-o, --out FILE`: the short form first, and what stands behind it."""
    names = ", ".join(sorted(option.opts, key=len))
    return names if option.is_flag else f"{names} {option.metavar}"


def _explained(parameter: Any) -> str:
    """The help of an argument or option, with its default and its other spellings."""
    words = [parameter.help or ""]
    if parameter.required and parameter.param_type_name == "option":
        words.append("Required.")
    elif parameter.default not in (None, False) and not parameter.required:
        words.append(f"Default: {parameter.default}.")
    others = [f"--{word}" for word in other_spellings(parameter.opts)]
    return " ".join([*words, *([f"Also {', '.join(others)}."] if others else [])])


def _show(context: typer.Context, wanted: bool) -> None:
    if wanted and not context.resilient_parsing:
        print(help_of(context), end="")
        raise typer.Exit


HelpOption = Annotated[
    bool, typer.Option("--help", "-h", is_eager=True, callback=_show, help="Show this message and exit.")
]
