"""Commands in surroundings that lack something: no folder to stand in, no memory, no place for what is kept."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from lab import ROOT, Lab

from mixmo_fast.cli.mendable import in_a_line

NOWHERE = "/dev/null/x"


def run(*arguments: object, cwd: Path = ROOT, options: tuple[str, ...] = (), **environment: str | None):
    """`mixmo-fast` in a process of its own; a variable that is None is unset."""
    variables = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "COLUMNS": "200", **environment}
    kept = {name: value for name, value in variables.items() if value is not None}
    command = [sys.executable, *options, "-m", "mixmo_fast", *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, env=kept, capture_output=True, text=True, stdin=subprocess.DEVNULL)


def training(lab: Lab) -> list[object]:
    changes = [f"--set={change}" for change in ("schedule.epochs=1", "schedule.milestones={}")]
    place = ["--data", lab.data, "--runs", lab.folder / "runs", "--device", "cpu"]
    return ["train", lab.config, *place, "--no-report", *changes]


@pytest.fixture
def a_run(trained, tmp_path) -> Path:
    """A copy of a finished run, into which pages may be written."""
    return Path(shutil.copytree(trained.run, tmp_path / "run"))


@pytest.mark.parametrize(("chosen", "problem"), [(NOWHERE, "Not a directory"), ("/proc/nowhere", "No such file")])
def test_a_compile_cache_that_cannot_be_kept_is_one_line(lab, chosen, problem):
    done = run(*training(lab), TORCHINDUCTOR_CACHE_DIR=chosen)
    assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr
    assert f"TORCHINDUCTOR_CACHE_DIR: found {chosen}" in done.stderr and problem in done.stderr
    assert "unset it" in done.stderr


def test_a_training_needs_neither_a_home_nor_places_for_caches_nor_assertions(lab):
    nowhere = dict.fromkeys(("HOME", "NUMBA_CACHE_DIR", "TRITON_CACHE_DIR", "MPLCONFIGDIR", "TMPDIR"), NOWHERE)
    unset = {"TORCHINDUCTOR_CACHE_DIR": None, "XDG_CACHE_HOME": None}
    done = run(*training(lab), options=("-OO",), **nowhere, **unset, LC_ALL="C", PYTHONSAFEPATH="1")
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr
    assert "Everything is in" in done.stdout


def test_no_room_for_compiled_kernels_names_the_variable():
    """Raised where numba raises it: compiled code is kept by its own file, which names none of the user's."""
    place = compile("raise OSError(28, 'No space left on device')", "x/numba/core/caching.py", "exec")
    with pytest.raises(OSError) as raised:
        exec(place)
    line = in_a_line(raised.value)
    assert (
        line is not None and "the disk is full" in line and line.endswith("or name another folder by NUMBA_CACHE_DIR")
    )


def test_what_may_not_be_read_is_not_said_to_be_written():
    line = in_a_line(PermissionError(13, "Permission denied", "x.yaml"))
    assert line == "x.yaml: Permission denied; nothing older is lost"


def test_a_page_is_drawn_without_a_home_and_a_folder_for_matplotlib(a_run):
    done = run("report", a_run, HOME=None, MPLCONFIGDIR="/etc/passwd", XDG_CONFIG_HOME=None, XDG_CACHE_HOME=None)
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr
    assert (a_run / "report.html").read_text().rstrip().endswith("</html>")


def test_a_folder_that_was_removed_is_one_line(tmp_path):
    gone = tmp_path / "gone"
    gone.mkdir()
    program = f"rmdir {gone} && exec {sys.executable} -m mixmo_fast status runs"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(["sh", "-c", program], cwd=gone, env=environment, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr == "mixmo-fast: the folder that this was started in was removed; cd to one that is there\n"


def too_large_for_torch() -> None:
    torch.empty(2**60, dtype=torch.uint8)


def too_large_for_numpy() -> None:
    np.empty(2**60, dtype=np.uint8)


def too_large_for_python() -> None:
    bytearray(2**60)


@pytest.mark.parametrize("fill", [too_large_for_torch, too_large_for_numpy, too_large_for_python])
def test_no_memory_is_one_line_that_says_what_to_lower(lab, command, monkeypatch, fill):
    monkeypatch.setattr("mixmo_fast.run.build.make_network", lambda *_, **__: fill())
    code, _, err = command(*training(lab))
    assert code == 2 and err.count("\n") == 1
    assert "lower batch.rows, evaluation.rows or network.width" in err and err.rstrip().endswith("uses this machine")


def test_no_memory_in_a_thread_that_draws_plans_is_the_same_line(lab, command, monkeypatch):
    monkeypatch.setattr("pipelines.plans.PlanFeed._draw", lambda *_: too_large_for_numpy())
    code, _, err = command(*training(lab))
    assert code == 2 and err.count("\n") == 1 and "Unable to allocate" in err and "lower batch.rows" in err
