"""What every command's help says: at 80 columns, in words of this program, ending with two examples that are true."""

import re
import shlex

import pytest
import typer
from places import REPOSITORY
from test_docs import parse

from mixmo_fast.cli import app as cli
from mixmo_fast.cli.examples import EXAMPLES
from mixmo_fast.cli.help_text import PROGRAM, name_of
from mixmo_fast.cli.spellings import other_spellings

TYPES = ("None", "Path", "PATH |", "LIST", "TEXT", "INTEGER", "FLOAT", "<", "list[", "bool")


def all_commands(command=None, words: tuple[str, ...] = ()) -> dict[tuple[str, ...], object]:
    """Every command and group, by the words that call it."""
    command = command or typer.main.get_command(cli.app)
    found = {words: command}
    for name, one in getattr(command, "commands", {}).items():
        found |= all_commands(one, (*words, name))
    return found


COMMANDS = all_commands()
WORK = {words: one for words, one in COMMANDS.items() if not hasattr(one, "commands")}
each_command = pytest.mark.parametrize("words", COMMANDS, ids=" ".join)


@pytest.fixture
def help_of(command, monkeypatch):
    def ask(*words: str, columns: int = 80) -> str:
        monkeypatch.setenv("COLUMNS", str(columns))
        code, out, complaint = command(*words, "--help")
        assert (code, complaint) == (0, "")
        return out

    return ask


@each_command
def test_help_is_readable_at_80_columns(help_of, words):
    text = help_of(*words)
    assert max(map(len, text.splitlines())) <= 80
    assert help_of(*words, columns=200) == text  # lines that grow with the window are hard to read, too
    narrow = re.findall(r"^ {25,}\S{1,3}$", text, flags=re.MULTILINE)
    assert len(narrow) <= 2, "words are crushed into a column"
    for parameter in COMMANDS[words].params:
        assert re.search(rf"^  (-\w, )?{re.escape(name_of(parameter))}\b", text, flags=re.MULTILINE), parameter.name


@each_command
def test_help_names_what_is_meant_and_no_type_of_python(help_of, words):
    text = help_of(*words)
    assert [word for word in TYPES if word in text] == []
    for parameter in COMMANDS[words].params:
        flag = parameter.param_type_name == "option" and parameter.is_flag
        assert parameter.help and (flag or parameter.metavar), parameter.name


@each_command
def test_help_ends_with_two_examples_that_can_be_typed(help_of, words):
    lines = help_of(*words).splitlines()
    assert lines[-3] == "Examples:" and len(EXAMPLES[" ".join(words)]) == 2
    for line in lines[-2:]:
        example = shlex.split(line)
        assert example[: 1 + len(words)] == [PROGRAM, *words]
        parse(example)
        assert all((REPOSITORY / word).exists() for word in example if word.startswith("configs/"))


def test_every_example_is_of_a_command():
    assert [tuple(words.split()) for words in EXAMPLES] == list(COMMANDS)


@pytest.mark.parametrize("words", [(), ("config",), ("checkpoint",)], ids=" ".join)
def test_words_that_want_a_command_say_which_there_are(command, help_of, words):
    said = help_of(*words)
    assert command(*words) == (2, "", said)


MEANINGS = {
    "--json": "Write all numbers to this file.",
    "--data": "Folder of data sets, original and converted.",
    "--runs": "Folder of run folders.",
    "--device": "auto, cuda or cpu.",
    "--checkpoint": "last, best (on test), the number of a kept epoch, or a path.",
    "--seed": "Instead of the configuration's.",
    "--pipeline": "How pixels reach the device: resident, ffcv, dali or reference.",
    "--set": "Override, e.g. optimizer.lr=0.01 or msda=null; repeatable.",
    "--force": None,  # what is replaced differs
    "--out": None,  # and what is written
    "--debug": "Show the traceback of an error.",
    "--help": "Show this message and exit.",
}
SHORT = {"--out": "-o", "--help": "-h"}


@pytest.mark.parametrize("words", WORK, ids=" ".join)
def test_an_option_means_the_same_in_every_command(words):
    for option in WORK[words].params:
        name = name_of(option)
        if name in MEANINGS:
            assert option.help == (MEANINGS[name] or option.help), name
            assert sorted(option.opts) == sorted(filter(None, [name, SHORT.get(name)]))
            others = {one.metavar for other in WORK.values() for one in other.params if name_of(one) == name}
            assert MEANINGS[name] is None or len(others) == 1, (name, others)
        assert "_" not in name


def test_what_names_a_place_is_never_called_otherwise():
    """`--output`, `--dir` and their like are other programs' words for `--out`, `--data` and `--runs`."""
    names = {name for one in WORK.values() for option in one.params for name in option.opts}
    assert not names & {"--output", "--dir", "--folder", "--file", "--data-dir", "--save", "--dest", "--to"}
    assert {name for name in names if len(name) == 2} == set(SHORT.values())


def test_other_spellings_are_understood_and_named_in_help(help_of, command, tmp_path):
    text = help_of("evaluate")
    for spelling in ("--tempscale", "--tempscal", "--corruptions", "--output"):
        assert f"{spelling}" in text.partition("Options:")[2]
    context = WORK["evaluate",].make_context(
        "evaluate", ["RUN", "--tempscal", "--corruptions=synthetic", "--mce_against=X"]
    )
    assert context.params["temperature_scaling"] and context.params["robustness"] == "synthetic"
    assert str(context.params["mce_against"]) == "X"
    code, out, _ = command("config", "new", "exp_cifar10_wrn2810-2_mimo_standard_bar4", "--output", tmp_path)
    assert code == 0 and str(tmp_path) in out


def test_other_spellings_hide_no_option():
    names = {name for one in COMMANDS.values() for option in one.params for name in option.opts}
    assert not {f"--{other}" for name in names for other in other_spellings([name])} & names
