"""Damaged files of a reproduction, and hostile words in them, are one line or text that is shown as it is."""

import io
import json
import os
import random

import pytest
from rich.console import Console
from sample_reproduction import fail, finish_planned, reproduction

from mixmo_fast.errors import MixmoError
from mixmo_fast.report.comparison_text import as_markdown
from mixmo_fast.reproduce.extend import LOCK, update_plan
from mixmo_fast.reproduce.jobs import epochs_done, last_line
from mixmo_fast.reproduce.plan import PLAN, read_plan
from mixmo_fast.reproduce.reporting import write_comparison
from mixmo_fast.reproduce.results import collect
from mixmo_fast.reproduce.run_state import read_state
from mixmo_fast.reproduce.status import show_status
from mixmo_fast.reproduce.tables import error_lines, results_tables
from mixmo_fast.runfolder.names import ENVIRONMENT, FAILED, LOG, METRICS, SUMMARY
from mixmo_fast.tables import print_table

ODD = (None, "", "x", [], {}, -1, 2**70, 0.5, True, [[[[]]]])
HOSTILE = "\x1b[31m<script>alert(1)</script>|\\`\u202e"


@pytest.fixture
def plan(tmp_path):
    made = reproduction(tmp_path, ("cifar10",), seeds=(1,))
    finish_planned(tmp_path, made.runs[0], 0.9)
    return made


def one_line(work) -> object:
    """What some work gives, or its refusal, which is a line."""
    try:
        return work()
    except MixmoError as error:
        assert str(error).isprintable() and len(str(error)) < 600, str(error)
        return error


def look(out) -> None:
    """All that is read of a reproduction."""
    console = Console(file=io.StringIO(), width=200)
    one_line(lambda: show_status(out, console))
    one_line(lambda: collect([out], out))


def damages(content: bytes) -> list[bytes]:
    rng, flipped = random.Random(5), []
    for _ in range(30):
        at = rng.randrange(len(content))
        flipped.append(content[:at] + bytes([content[at] ^ 1 << rng.randrange(8)]) + content[at + 1 :])
    texts = ("", "null", "[]", "{}", '""', "1e999", "NaN", "[" * 5000, "\ufeff{}", "\x00" * 64)
    return [content[: len(content) // 2], b"\xff\xfe", *(text.encode() for text in texts), *flipped]


def test_a_damaged_plan_is_one_line(tmp_path, plan):
    path = tmp_path / PLAN
    for content in damages(path.read_bytes()):
        path.write_bytes(content)
        one_line(lambda: read_plan(tmp_path))
        look(tmp_path)


def test_fields_of_a_plan_of_other_types_are_one_line(tmp_path, plan):
    path = tmp_path / PLAN
    content = json.loads(path.read_text())
    run = content["runs"][0]
    for key in (*content, *run):
        for value in ODD:
            changed = {**content, "runs": [{**run, key: value}]} if key in run else {**content, key: value}
            path.write_text(json.dumps(changed))
            look(tmp_path)


@pytest.mark.parametrize("name", [SUMMARY, METRICS, ENVIRONMENT, FAILED, LOG])
def test_damaged_files_of_its_runs_are_states_or_lines(tmp_path, plan, name):
    folder = plan.runs[0].folder(tmp_path)
    whole = (folder / name).read_bytes() if (folder / name).is_file() else b"something went wrong\n"
    for content in damages(whole):
        (folder / name).write_bytes(content)
        look(tmp_path)


@pytest.mark.parametrize("name", [PLAN, SUMMARY, METRICS, FAILED, LOG])
@pytest.mark.parametrize("other", ["pipe", "folder", "device", "circle"])
def test_what_is_no_file_is_not_waited_for(tmp_path, plan, name, other):
    path = tmp_path / name if name == PLAN else plan.runs[0].folder(tmp_path) / name
    path.unlink(missing_ok=True)
    match other:
        case "pipe":
            os.mkfifo(path)
        case "folder":
            path.mkdir()
        case "device":
            path.symlink_to("/dev/zero")
        case "circle":
            path.symlink_to(path.name)
    look(tmp_path)
    folder = plan.runs[0].folder(tmp_path)
    assert last_line(folder / LOG) == "" and epochs_done(folder) in (0, plan.runs[0].epochs)


@pytest.mark.parametrize("other", ["pipe", "folder", "device", "link"])
def test_a_lock_that_is_no_file_is_one_line_and_costs_neither_plan_nor_victim(tmp_path, plan, other):
    lock, victim, planned = tmp_path / LOCK, tmp_path / "victim", (tmp_path / PLAN).read_bytes()
    victim.write_text("precious")
    lock.unlink(missing_ok=True)
    match other:
        case "pipe":
            os.mkfifo(lock)
        case "folder":
            lock.mkdir()
        case "device":
            lock.symlink_to("/dev/null")
        case "link":
            lock.symlink_to(victim)
    refused = one_line(lambda: update_plan(plan, tmp_path))
    assert isinstance(refused, MixmoError) and LOCK in str(refused)
    assert victim.read_text() == "precious" and (tmp_path / PLAN).read_bytes() == planned


@pytest.mark.parametrize("name", ["results.json", "results.md", "report.html"])
def test_results_take_the_place_of_whatever_file_was_there(tmp_path, plan, name):
    victim, path = tmp_path / "victim", tmp_path / name
    victim.write_text("precious")
    console = Console(file=io.StringIO(), width=200)
    write_comparison([tmp_path], console)
    whole = path.read_bytes()
    for damage in (lambda: path.write_bytes(whole[:10]), lambda: path.symlink_to(victim)):
        path.unlink()
        damage()
        one_line(lambda: write_comparison([tmp_path], console))
        assert victim.read_text() == "precious"
    path.unlink()
    path.write_bytes(b"damaged")
    write_comparison([tmp_path], console)
    assert path.read_bytes() == whole


def test_a_run_whose_epochs_were_lost_is_not_complete(tmp_path, plan):
    run = plan.runs[0]
    folder = run.folder(tmp_path)
    assert read_state(folder, run).status == "complete"
    lines = (folder / METRICS).read_text().splitlines(keepends=True)
    for kept in ("", lines[0], lines[0][:20]):
        (folder / METRICS).write_text(kept)
        assert read_state(folder, run).status == "stopped"


def test_hostile_words_reach_neither_a_terminal_nor_a_page_as_more_than_text(tmp_path, plan):
    run, folder = plan.runs[0], plan.runs[0].folder(tmp_path)
    recorded = json.loads((folder / ENVIRONMENT).read_text())
    (folder / ENVIRONMENT).write_text(json.dumps(recorded | {"init": {"path": HOSTILE, "sha256": "0" * 64}}))
    fail(plan.runs[1].folder(tmp_path), HOSTILE)
    results = collect([tmp_path], tmp_path)
    text = as_markdown(results, "mixmo-fast report x")
    assert "\x1b" not in text and "<script>" not in text and "&lt;script>" in text
    console = Console(file=io.StringIO(), width=200)
    for table in results_tables(results):
        print_table(console, table)
    shown = console.file.getvalue() + "".join(error_lines([read_state(plan.runs[1].folder(tmp_path), plan.runs[1])]))
    assert "\x1b" not in shown and "\u202e" not in shown and "alert(1)" in shown
    assert read_state(folder, run).status == "complete"
