"""What is said while a command works: a first line before anything heavy is loaded, and no codes in a pipe."""

import io
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from lab import ROOT
from rich.console import Console

from mixmo_fast.cli import options
from mixmo_fast.run.page import report_run
from mixmo_fast.terminal import waiting

# Ends the process where the first heavy package is asked for; what was said by then has reached the pipe.
STOPS_AT_IMPORTS = """
import os, sys
class Stops:
    def find_spec(self, name, path=None, target=None):
        if name in ("torch", "numpy", "numba", "matplotlib", "sklearn", "ray"):
            os.write(1, b"IMPORTS " + name.encode() + b"\\n")
            os._exit(0)
sys.meta_path.insert(0, Stops())
from mixmo_fast.cli.app import main
sys.argv = ["mixmo-fast", *sys.argv[1:]]
main()
"""
FIRST = {
    "train": (["train", "configs/quickstart.yaml"], "quickstart: loading torch ..."),
    "evaluate": (["evaluate", "runs/x"], "evaluating runs/x ..."),
    "inspect": (["inspect", "runs/x"], "inspecting runs/x ..."),
    "predict": (["predict", "runs/x", "cat.png"], "predicting with runs/x ..."),
    "reproduce": (["reproduce", "cifar100", "tiny", "-o", "out"], "planning cifar100 tiny, in out ..."),
    "benchmark": (["benchmark", "configs/quickstart.yaml"], "quickstart: loading torch ..."),
    "convert": (["convert", "digits"], "converting digits ..."),
}


@pytest.mark.parametrize("name", FIRST)
def test_a_pipe_has_its_first_line_before_anything_heavy_is_loaded(name):
    arguments, line = FIRST[name]
    program = [sys.executable, "-c", STOPS_AT_IMPORTS, *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(program, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    said = done.stdout.splitlines()
    assert said[0] == line and len(said) == 2 and said[1].startswith("IMPORTS ")


def test_only_the_first_of_several_ranks_says_it():
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "RANK": "1"}
    program = [sys.executable, "-c", STOPS_AT_IMPORTS, *FIRST["train"][0]]
    done = subprocess.run(program, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("IMPORTS ")


@pytest.mark.parametrize("force", [None, "1"])
def test_no_command_leaves_codes_in_a_pipe(trained, command, monkeypatch, tmp_path, force):
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    if force is not None:
        monkeypatch.setenv("FORCE_COLOR", force)
        monkeypatch.setenv("CLICOLOR_FORCE", force)
    run = Path(shutil.copytree(trained.run, tmp_path / "run"))
    place = ["--data", trained.data, "--device", "cpu"]
    for arguments in (
        ["convert", "digits", "--data", trained.data],
        ["doctor", "--data", trained.data],
        ["evaluate", run, *place, "--tempscale", "--out", tmp_path / "found"],
        ["status", run, "--watch"],
        ["reproduce", trained.config, "--dry-run", "--out", tmp_path / "out", "--data", trained.data],
        ["report", run, "--data", trained.data],
    ):
        code, out, err = command(*arguments)
        assert code == 0 and out.strip(), err
        assert not {"\x1b", "\r"} & set(out + err), arguments


def test_wide_is_an_option_of_every_command_with_tables(trained, command):
    code, narrow, _ = command("status", trained.run)
    assert (code, command("status", trained.run, "--wide")[1]) == (0, narrow)  # in a pipe all columns are there anyway
    for name in ("status", "reproduce", "report", "benchmark", "evaluate", "inspect", "doctor", "predict"):
        assert "--wide" in command(name, "--help")[1]


@pytest.mark.parametrize("terminal", [False, True])
def test_evaluation_and_page_at_the_end_are_named_while_they_are_made(trained, monkeypatch, tmp_path, terminal):
    out = io.StringIO()
    seen = []

    def work(what):
        until = time.monotonic() + 30  # a terminal is painted by a thread
        while what not in out.getvalue() and time.monotonic() < until:
            time.sleep(0.01)
        seen.append((what in out.getvalue(), "drawing" in out.getvalue()))

    monkeypatch.setattr("mixmo_fast.run.evaluate.evaluate_run", lambda *_, **__: work("evaluating the last epoch"))
    monkeypatch.setattr("mixmo_fast.run.page.record_evaluation", lambda *_: work("drawing the page"))
    report_run(trained.run, trained.data, "cpu", Console(file=out, force_terminal=terminal, width=80))
    assert seen == [(True, False), (True, True)]
    assert "All of it on one page" in out.getvalue()


def test_a_log_of_a_training_names_first_step_and_pictures(trained):
    lines = trained.printed.getvalue().splitlines()
    order = [lines.index(f"{what} ...") for what in ("taking the first step", "drawing the learning curves")]
    epochs = [number for number, line in enumerate(lines) if line.startswith("epoch ")]
    assert order[0] < epochs[0] and epochs[-1] < order[1]
    assert lines[epochs[-1]].endswith(" left")


def test_long_work_in_a_log_is_a_line_a_minute(monkeypatch):
    now, out = [1000.0], io.StringIO()
    monkeypatch.setattr(options.time, "monotonic", lambda: now[0])
    with options.BarOfWork(Console(file=out, width=80), "converting tinyimagenet") as bar:
        for done, now[0] in ((10, 1030.0), (20, 1060.0), (30, 1090.0), (1234, 1125.0)):
            bar.show("training images", done, 100_000)
    assert out.getvalue().splitlines() == [
        "converting tinyimagenet ...",
        "training images: 20 of 100,000",
        "training images: 1,234 of 100,000",
    ]


def test_a_bar_gives_way_to_what_is_counted():
    bar = options.BarOfWork(Console(file=io.StringIO(), force_terminal=True, width=80), "evaluating")
    with bar:
        assert [(task.description, task.total) for task in bar._bar.tasks] == [("evaluating", None)]
        bar.show("test images", 1, 15)
        assert [(task.description, task.total) for task in bar._bar.tasks] == [("test images", 15)]


def test_what_is_waited_for_is_text_on_a_terminal():
    out = io.StringIO()
    with waiting(Console(file=out, force_terminal=True, width=80, color_system=None), "loading [bold]x[/bold]"):
        pass
    assert "loading [bold]x[/bold]" in out.getvalue()
