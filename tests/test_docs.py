"""The README and the documents: what they tell a reader to run, to open and to believe is so.

Every line of a `sh` block is parsed by the program that it starts. Those that take a moment are also run, in a folder
that has what a fresh checkout has; the others want a GPU, a network or hours. A line with a program, an option or a
file that is not there fails.
"""

import argparse
import importlib
import json
import re
import shlex
import shutil
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
import typer
import yaml
from dockerfile import arguments, instructions
from places import REPOSITORY, TESTS
from test_layers import MAY_IMPORT, TABLES, files, imports, module_of, of_the_project, room_of

from mixmo_fast import __version__
from mixmo_fast.cli import app as cli
from mixmo_fast.config.load import load_config, parse_config

README = REPOSITORY / "README.md"
DOCUMENTS = [README, REPOSITORY / "CONTRIBUTING.md", *sorted((REPOSITORY / "docs").glob("*.md"))]
LONGEST_README = 9_000  # characters
CODE = ("mixmo_fast", "pipelines", "benchmarks", "tests")
QUICK = [  # commands of `mixmo-fast`, by their first words
    *("config explain", "config import", "config new", "convert digits", "preview", "report benchmarks/results"),
    "reproduce all --dry-run",
]
each_document = pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)


@dataclass(frozen=True)
class Command:
    """A line of a `sh` block, its comment cut off and its continuations joined."""

    document: str
    words: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.document}: {shlex.join(self.words)}"

    @property
    def is_quick(self) -> bool:
        program, *words = self.words
        return program == "mixmo-fast" and " ".join(words).startswith(tuple(QUICK))


class Parsed(Exception):
    """A program's arguments were understood, and it goes no further."""


def blocks(document: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", document.read_text(), flags=re.MULTILINE | re.DOTALL)


def without_blocks(document: Path) -> str:
    return re.sub(r"^```.*?^```$", "", document.read_text(), flags=re.MULTILINE | re.DOTALL)


def commands() -> list[Command]:
    return [
        Command(document.name, tuple(words))
        for document in DOCUMENTS
        for block in blocks(document, "sh")
        for line in block.replace("\\\n", " ").splitlines()
        if (words := shlex.split(line, comments=True))
    ]


def parse(words: Sequence[str]) -> None:
    """Lets the program that is named first understand the rest, and do nothing.

    Raises:
        Exception: Whatever the program's parser says of a line that it does not understand.
    """
    match list(words):
        case ["mixmo-fast", *rest] | ["python", "-m", "mixmo_fast", *rest]:
            parse_mixmo_fast(rest)
        case ["python", "-m", module, *rest]:
            parse_module(module, rest)
        case ["torchrun", *rest]:
            from torch.distributed.run import get_args_parser

            found = get_args_parser().parse_args(rest)
            assert found.module
            parse(["python", "-m", found.training_script, *found.training_script_args])
        case ["make", *targets]:
            known = re.findall(r"^([a-z-]+):", (REPOSITORY / "Makefile").read_text(), flags=re.MULTILINE)
            assert set(targets) <= set(known)
        case ["docker", *rest]:
            parse_docker(rest)
        case ["mkdir", "-p", "data", "runs"]:
            pass
        case _:
            raise AssertionError("no program that the documents may ask for")


def parse_mixmo_fast(words: Sequence[str]) -> None:
    command, words = typer.main.get_command(cli.app), list(words)
    while hasattr(command, "commands"):
        command = command.commands[words.pop(0)]
    command.make_context(command.name, words)


def parse_docker(words: Sequence[str]) -> None:
    parser = argparse.ArgumentParser()
    verbs = parser.add_subparsers(dest="verb", required=True)
    build, run = verbs.add_parser("build"), verbs.add_parser("run")
    build.add_argument("--build-arg", action="append", default=[])
    build.add_argument("--tag", choices=["mixmo-fast"], required=True)
    build.add_argument("folder", choices=["."])
    for option in ("--rm", "--init"):
        run.add_argument(option, action="store_true", required=True)
    for option in ("--user", "--gpus", "--shm-size"):
        run.add_argument(option)
    run.add_argument("-v", action="append")
    run.add_argument("image", choices=["mixmo-fast"])
    run.add_argument("command", nargs=argparse.REMAINDER)
    found = parser.parse_args(words)
    if found.verb == "build":
        assert {pair.partition("=")[0] for pair in found.build_arg} <= arguments().keys()
    else:
        places = [place.partition(":")[2] for place in found.v]
        assert places == next(json.loads(rest) for name, rest in instructions() if name == "VOLUME")
        parse_mixmo_fast(found.command)


def parse_module(module: str, words: Sequence[str]) -> None:
    understand = argparse.ArgumentParser.parse_args

    def stop(parser: argparse.ArgumentParser, arguments=None, namespace=None) -> None:
        raise Parsed(understand(parser, arguments, namespace))

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Parsed):
        patch.setattr(argparse.ArgumentParser, "parse_args", stop)
        patch.setattr(sys, "argv", [module, *words])
        found = importlib.import_module(module)
        if hasattr(found, "__path__"):  # a package is run by its `__main__`
            found = importlib.import_module(f"{module}.__main__")
        found.main()


@pytest.mark.parametrize("command", commands(), ids=str)
def test_every_command_is_one_that_its_program_understands(command):
    try:
        parse(command.words)
    except SystemExit as refused:
        pytest.fail(f"{command} ends with {refused.code}")
    for word in command.words:
        if word.startswith(("configs/", "benchmarks/", "tests/")):
            assert (REPOSITORY / word).exists(), word


@pytest.mark.parametrize(
    "line",
    [
        "mixmo-fast train configs/quickstart.yaml --sed 3",
        "mixmo-fast trian configs/quickstart.yaml",
        "mixmo-fast convert",
        "mixmo-fast preview configs/quickstart.yaml",
        "torchrun --nproc-per-node=8 -m mixmo_fast train --gpus 8",
        "python -m benchmarks.training --json a.json --layers 3",
        "python -m benchmarks.gpu_suite",
        "make demonstration",
        "docker build --build-arg CUDA=12 --tag mixmo-fast .",
        "docker run --rm --init -v $PWD/data:/data mixmo-fast train configs/quickstart.yaml",
        "pip install mixmo-fast",
    ],
)
def test_a_command_with_a_mistake_would_be_found(line):
    with pytest.raises((Exception, SystemExit)):
        parse(shlex.split(line))


def test_the_quick_commands_run(tmp_path, monkeypatch, capsys):
    for folder in ("configs", "benchmarks/results"):
        shutil.copytree(REPOSITORY / folder, tmp_path / folder)
    shutil.copy(TESTS / "golden" / "reference_wrn10-1_cutmixmo.yaml", tmp_path / "OLD.yaml")
    monkeypatch.chdir(tmp_path)
    quick = [command for command in commands() if command.is_quick]
    for start in QUICK:
        assert any(" ".join(command.words[1:]).startswith(start) for command in quick), f"in no document: {start}"
    for command in quick:
        monkeypatch.setattr(sys, "argv", list(command.words))
        with pytest.raises(SystemExit) as ended:
            cli.main()
        assert not ended.value.code, f"{command}: {capsys.readouterr().err}"
    for made in ("data/digits/dataset.json", "preview.png", "NEW.yaml"):
        assert Path(made).stat().st_size > 0
    tables = Path("benchmarks/results/rehearsal_fashion_mnist/results.md")
    assert tables.read_text() == (REPOSITORY / tables).read_text()


def anchors(document: Path) -> set[str]:
    """What a link may name behind #: each heading in small letters, without punctuation, with hyphens for spaces."""
    headings = re.findall(r"^#+ (.*)$", document.read_text(), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def links(document: Path) -> list[str]:
    found = re.findall(r"\]\(([^)]+)\)", without_blocks(document))
    return [link for link in found if not link.startswith("https://")]


@each_document
def test_every_link_leads_somewhere(document):
    for link in links(document):
        name, _, anchor = link.partition("#")
        target = (document.parent / name) if name else document
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


@each_document
def test_every_file_of_code_that_is_named_is_there(document):
    """Whole paths from the repository's root, and ends of paths, such as `mixing/block.py`; NAME is the reader's."""
    text = re.sub(r"[\w./]*NAME[\w./]*", "", document.read_text())
    code = [f"/{path.relative_to(REPOSITORY)}" for folder in CODE for path in (REPOSITORY / folder).rglob("*.py")]
    for name in re.findall(r"[\w./]+\.py\b", text):
        assert any(path.endswith(f"/{name}") for path in code), name
    for name in re.findall(rf"`((?:{'|'.join(CODE)}|configs|docs|\.ci|\.github)/[^` ]*)`", text):
        assert (REPOSITORY / name).exists(), name


@each_document
def test_every_table_is_whole(document):
    """An empty line inside would cut it in two, and show the second part as text."""
    for table in re.findall(r"(?:^\|.*\n)+", without_blocks(document), flags=re.MULTILINE):
        first, second, *_ = [line.replace("\\|", "") for line in table.splitlines()]
        assert re.fullmatch(r"(\|:?-+:?)+\|", second), first
        assert {line.count("|") for line in table.splitlines()} == {first.count("|")}, first


def test_the_readme_is_short_and_leads_to_every_document():
    assert len(README.read_text()) <= LONGEST_README
    assert {README.parent / link.partition("#")[0] for link in links(README)} >= set(DOCUMENTS) - {README}


def test_the_readmes_configuration_is_that_of_the_run_beside_it():
    (text,) = blocks(README, "yaml")
    (name,) = set(re.findall(r"train (configs/\S+)", README.read_text()))
    assert parse_config(text, "README.md") == load_config(REPOSITORY / name)


def test_the_measured_rows_are_those_of_the_committed_results():
    def result(name: str) -> dict:
        return json.loads((REPOSITORY / "benchmarks" / "results" / f"{name}.json").read_text())

    quickstart, scores, step = result("quickstart_cpu"), result("metrics_cpu"), result("training_wrn-16-2_cpu")
    rates = [one["rows_per_second"] for one in result("pipelines_cpu")["contestants"].values()]
    steps = [step["contestants"][name]["rows_per_second"] for name in ("default", "eager_fp32_nchw")]
    parity, plain = (result(f"parity_fashion_mnist{name}")["runs"] for name in ("", "_plain"))
    accuracies = [
        [parity[recipe]["mean_top1"], plain[recipe]["mean_top1"], parity[recipe]["reference_mean_top1"]]
        for recipe in ("single", "cutmixmo_cutmix")
    ]
    quoted = [
        f"{100 * quickstart['median_top1']:.2f} % top-1",
        f"{quickstart['median_seconds']:.0f} s |",
        " / ".join(f"{float(f'{rate:.3g}' if rate > 1e4 else f'{rate:.2g}'):,.0f}" for rate in rates) + " rows/s",
        " / ".join(f"{rate:.0f}" for rate in steps) + " rows/s",
        *(" / ".join(f"{mean:.2f}" for mean in means) + " %" for means in accuracies),
    ]
    settings, conversion = result("inference_cpu")["settings"], result("conversion_cpu")
    folded, ensemble = (
        statistics.median(one["contestants"][name]["ratio"] for one in settings)
        for name in ("mixmo, 2 members", "ensemble of 2, in turn")
    )
    further = [
        f"{1000 * scores['seconds']['scores, trained']:.0f} ms",
        f"{100 * scores['share']['scores, trained']['forward pass, wrn-16-2, bf16']:.1f} %",
        f"folded MixMo, M=2: {folded:.2f}",
        f"{statistics.median(conversion['conversion_seconds']):.1f} s, {conversion['ratio']:.1f} times",
    ]
    readme = [*quoted, f"{folded:.2f} / 1 / {ensemble:.2f}"]
    for document, numbers in ((README, readme), (REPOSITORY / "docs" / "measured.md", quoted + further)):
        text = document.read_text()
        assert [number for number in numbers if number not in text] == [], document.name


def test_the_picture_of_the_rooms_has_each_above_those_that_it_imports():
    picture = blocks(REPOSITORY / "docs" / "architecture.md", "")[1]
    drawn = re.findall(r"^(\d)  (\S+)", picture, flags=re.MULTILINE)
    floors = {room.removesuffix(".py").replace("/", "."): int(floor) for floor, room in drawn}
    assert floors.pop("the") == 1  # the ground
    assert floors.keys() == MAY_IMPORT.keys() - set(TABLES)
    for path in files():
        room = room_of(module_of(path))
        others = {room_of(name) for name in of_the_project(imports(path))} - {room, None, *TABLES}
        for other in others if room in floors else ():  # what lies on the ground imports none of them
            assert floors[room] > floors[other], f"{path} imports {other}"


def test_the_citation_is_of_this_version_and_of_the_papers_authors():
    citation = yaml.safe_load((REPOSITORY / "CITATION.cff").read_text())
    assert citation["version"] == __version__
    paper = citation["preferred-citation"]
    names = " and ".join(f"{one['given-names']} {one['family-names']}" for one in paper["authors"])
    assert {names, paper["title"], paper["journal"], str(paper["year"])} <= set(
        re.findall(r"= \{(.*)\}", README.read_text())
    )
