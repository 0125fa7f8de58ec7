"""A run folder in which a file is damaged: one line that names it, or the file is made anew; no command waits or fails.

Each file meets each damage, drawn from a seed; the values that are of their type but absurd also reach a page.
"""

import copy
import json
import os
import random
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from lab import Lab, read_history, repeatable
from sample_run import evaluation, inspection, write_json

from mixmo_fast.api.runs import open_run
from mixmo_fast.errors import MixmoError
from mixmo_fast.report.run_files import read_run
from mixmo_fast.report.run_report import write_report
from mixmo_fast.run.page import page_damage
from mixmo_fast.runfolder.evaluated import SavedEvaluation
from mixmo_fast.runfolder.record import read_record

OF_BEST = "evaluations/best/evaluation.json"
RECORDS = ("summary.json", "evaluation.json", "inspection.json", "environment.json", "metrics.jsonl")
DEEP = json.loads("[" * 300 + "]" * 300)
VALUES = (None, "", "x", [], {}, DEEP, True, 0.5, -1, 0, 2**63, 2**70, 10**400, 1e300, -1e300, 5e-324, float("inf"))
DAMAGES: dict[str, Callable[[Path, bytes], object]] = {
    "empty": lambda path, _: path.write_bytes(b""),
    "half": lambda path, whole: path.write_bytes(whole[: len(whole) // 2]),
    "zeroed": lambda path, whole: path.write_bytes(whole[:40] + bytes(16) + whole[56:]),
    "noise": lambda path, _: path.write_bytes(random.Random(1).randbytes(300)),
    "not UTF-8": lambda path, whole: path.write_bytes(whole[:50] + b"\xff" + whole[50:]),
    "byte order mark": lambda path, whole: path.write_bytes(b"\xef\xbb\xbf" + whole),
    "null": lambda path, _: path.write_text("null"),
    "list": lambda path, _: path.write_text("[]"),
    "object": lambda path, _: path.write_text("{}"),
    "infinite": lambda path, _: path.write_text("1e999"),
    "deep": lambda path, _: path.write_text("[" * 100_000),
    "folder": lambda path, _: path.mkdir(),
    "pipe": lambda path, _: os.mkfifo(path),
    "device": lambda path, _: path.symlink_to("/dev/zero"),
    "link to itself": lambda path, _: path.symlink_to(path.name),
}


@pytest.fixture(scope="module")
def whole(trained, tmp_path_factory) -> Path:
    """A finished run with all records; nobody writes into it."""
    run = Path(shutil.copytree(trained.run, tmp_path_factory.mktemp("whole") / "tiny"))
    write_json(run / "evaluation.json", evaluation(images=300))
    write_json(run / "inspection.json", inspection(layers=3))
    (run / "evaluations" / "best").mkdir(parents=True)
    write_json(run / OF_BEST, evaluation(images=300))
    return run


@pytest.fixture
def run(whole, tmp_path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "runs" / "tiny"))


def damage(path: Path, kind: str) -> None:
    content = path.read_bytes()
    path.unlink()
    DAMAGES[kind](path, content)


def is_read_or_one_line(read: Callable[[], object]) -> bool:
    """Whether it was read; what is refused says so in one line."""
    try:
        read()
    except MixmoError as error:
        assert "\n" not in str(error)
        return False
    return True


@pytest.mark.parametrize("kind", DAMAGES)
@pytest.mark.parametrize("name", [*RECORDS, OF_BEST, "config.yaml", "first_batch.png"])
def test_a_damaged_file_is_one_line_that_names_it(run, command, name, kind):
    damage(run / name, kind)
    is_read_or_one_line(lambda: open_run(run))
    code, _, err = command("status", run)
    assert code in (0, 2) and err.count("\n") == (code == 2)
    if not is_read_or_one_line(lambda: read_run(run)):
        with pytest.raises(MixmoError, match=re.escape(str(run))):
            write_report(run)


def places_in(content: object, above: tuple = ()) -> Iterator[tuple]:
    """Where values are in some JSON, of lists the first and the last."""
    if above:
        yield above
    if isinstance(content, dict):
        for key, value in content.items():
            yield from places_in(value, (*above, key))
    elif isinstance(content, list) and content:
        for place in {0, len(content) - 1}:
            yield from places_in(content[place], (*above, place))


def replaced(content: object, place: tuple, value: object) -> object:
    changed = copy.deepcopy(content)
    inner = changed
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    return changed


@pytest.mark.parametrize("name", RECORDS)
def test_an_absurd_value_is_refused_in_one_line_or_drawn(run, command, name):
    path = run / name
    content = read_history(run) if name == "metrics.jsonl" else json.loads(path.read_text())
    rng, drawn = random.Random(name), 0
    changes = [(place, value) for place in places_in(content) for value in VALUES]
    for place, value in rng.sample(changes, min(40, len(changes))):
        changed = replaced(content, place, value)
        rows = changed if name == "metrics.jsonl" else [changed]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        if is_read_or_one_line(lambda: open_run(run)) and drawn < 2:
            drawn += is_read_or_one_line(lambda: write_report(run))
        assert command("status", run)[0] == 0, (place, value)
    assert drawn


@pytest.fixture
def ended(trained, tmp_path, digits) -> Lab:
    """A copy of a finished run, which may be trained on."""
    lab = Lab(tmp_path, digits)
    shutil.copytree(trained.run, lab.run)
    return lab


@pytest.mark.parametrize("kind", ["empty", "object", "not UTF-8", "pipe"])
@pytest.mark.parametrize("name", ["summary.json", "environment.json", "metrics.jsonl"])
def test_an_ended_run_makes_its_records_anew_from_its_checkpoint(ended, trained, name, kind):
    damage(ended.run / name, kind)
    (ended.run / "metrics.csv").unlink()
    weights = ended.path().read_bytes()
    ended.train()
    printed = ended.printed.getvalue()
    if name == "environment.json" and kind == "object":  # says nothing, which files of older versions may
        assert "Nothing to train" in printed
        return
    assert "made anew from the checkpoint" in printed and "Nothing to train" not in printed
    assert ended.path().read_bytes() == weights
    assert repeatable(read_history(ended.run)) == repeatable(read_history(trained.run))
    assert (ended.run / "metrics.csv").read_text() == (trained.run / "metrics.csv").read_text()
    assert open_run(ended.run).summary.last == open_run(trained.run).summary.last
    ended.train()
    assert "Nothing to train" in ended.printed.getvalue()


@pytest.mark.parametrize("name", ["evaluations/last/evaluation.json", "report.html"])
def test_a_damaged_evaluation_or_page_is_made_anew_by_the_same_training(ended, name):
    ended.train(report=True)
    assert page_damage(ended.run) is None
    damage(ended.run / name, "half")
    ended.train(report=True)
    assert f"{name}: " in ended.printed.getvalue() and "it is made anew" in ended.printed.getvalue()
    assert page_damage(ended.run) is None
    assert read_record(ended.run / "evaluations" / "last" / "evaluation.json", SavedEvaluation).epoch == 4
