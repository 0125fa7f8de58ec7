"""CUDA's Multi-Process Service by a stand-in for NVIDIA's program: it notes what it is asked, and its daemon sleeps."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from lab import ROOT
from runs_lab import gone, planned, processes_with

from mixmo_fast.reproduce import local, mps
from mixmo_fast.reproduce.jobs import Launch
from mixmo_fast.reproduce.mps import LOGS, PIPES, multi_process_service

CONTROL = """#!/bin/sh
echo "$1 sees ${CUDA_VISIBLE_DEVICES-all}" >> FOLDER/calls
if [ "$1" = -d ]; then
    if [ -f FOLDER/forbidden ]; then echo "warming up"; echo "Insufficient privileges" >&2; exit 1; fi
    setsid PYTHON -c "import time; time.sleep(600)" FOLDER/daemon &
    echo $! > "${CUDA_MPS_PIPE_DIRECTORY:-FOLDER}/pid"
else
    read -r line
    echo "$line" >> FOLDER/calls
    pid=$(cat "${CUDA_MPS_PIPE_DIRECTORY:-FOLDER}/pid" 2>/dev/null) || exit 1
    if [ "$line" = quit ]; then kill "$pid"; fi
fi
"""


@pytest.fixture
def control(tmp_path, monkeypatch) -> Path:
    """The folder of the stand-in, which is first on PATH; processes reach the GPU through its daemon."""
    folder = tmp_path / "control"
    folder.mkdir()
    program = folder / "nvidia-cuda-mps-control"
    program.write_text(CONTROL.replace("FOLDER", str(folder)).replace("PYTHON", sys.executable))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5")
    monkeypatch.delenv(PIPES, raising=False)
    monkeypatch.setattr(mps, "_PAUSE", 0.0)
    monkeypatch.setattr(mps, "free_on_gpu", lambda _: (1, ""))
    monkeypatch.setattr(local, "free_on_gpu", lambda _: (None, ""))
    return folder


@pytest.fixture
def shared(launch) -> Launch:
    return dataclasses.replace(launch, device="cuda", workers=2, runs_per_gpu=2)


def calls(control: Path) -> list[str]:
    path = control / "calls"
    return path.read_text().splitlines() if path.exists() else []


def environment_of_children(launch: Launch, runs: tuple) -> list[dict]:
    return [json.loads((run.folder(launch.out) / "environment.json").read_text()) for run in runs]


def test_a_daemon_of_our_own_serves_all_runs_and_ends_with_them(control, shared, pretend):
    """Though a run crashes; it sees all GPUs, since numbers in the children's environment would else mean others."""
    pretend("if number == 1 and 'seed1' in str(folder): os.kill(os.getpid(), signal.SIGKILL)")
    runs, told = planned(shared, 2), []
    assert {one.status for one in local.run_local(runs, shared, told.append)} == {"complete"}
    assert told[0].startswith("MPS: started, in /tmp/mixmo-mps-")
    seen = environment_of_children(shared, runs)
    (folder,) = {one[PIPES] for one in seen}
    assert {one[LOGS] for one in seen} == {folder} and {one["CUDA_VISIBLE_DEVICES"] for one in seen} == {"5"}
    assert len(folder) < 40 and not Path(folder).exists()
    assert calls(control) == [" sees 5", "get_server_list", "-d sees all", " sees all", "quit"]
    assert gone(f"{control}/daemon")


def test_runs_that_do_not_share_start_no_daemon(control, shared, pretend):
    pretend("")
    runs = planned(shared, 2)
    local.run_local(runs, dataclasses.replace(shared, workers=1, runs_per_gpu=1), lambda _: None)
    assert calls(control) == [] and not any(PIPES in one for one in environment_of_children(shared, runs))


def test_an_interrupted_engine_ends_its_daemon_after_its_children(control, shared, pretend):
    pretend("(folder / 'up').touch(); time.sleep(600)")
    runs, told = planned(shared, 1), []

    def interrupt() -> None:
        until = time.monotonic() + 60
        while not (runs[0].folder(shared.out) / "up").exists() and time.monotonic() < until:
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt).start()
    with pytest.raises(KeyboardInterrupt):
        local.run_local(runs, shared, told.append)
    assert calls(control)[-1] == "quit" and gone(f"{control}/daemon") and gone(str(shared.out))
    assert not Path(told[0].split()[3]).exists()


def test_the_daemon_ends_though_the_engine_was_killed(control):
    """With all of its group, as by a terminal; the daemon has left that by itself."""
    script = (
        "import os, signal; from mixmo_fast.reproduce import mps;"
        "mps.free_on_gpu = lambda _: (1, '');"
        "service = mps.multi_process_service(lambda line: print(line.split()[3], flush=True));"
        "service.__enter__(); os.killpg(0, signal.SIGKILL)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert done.returncode == -signal.SIGKILL and done.stdout.startswith("/tmp/mixmo-mps-")
    assert gone(f"{control}/daemon")
    until = time.monotonic() + 30
    while (left := Path(done.stdout.strip()).exists()) and time.monotonic() < until:
        time.sleep(0.05)
    assert not left


def with_service() -> tuple[dict[str, str], str]:
    """What children get, and what is told."""
    told: list[str] = []
    with multi_process_service(told.append) as more:
        (line,) = told
    return more, line


def test_without_the_daemon_runs_share_by_time_slices_and_a_line_says_why(control, monkeypatch):
    before = set(Path("/tmp").glob("mixmo-mps-*"))
    (control / "forbidden").touch()
    assert with_service() == ({}, "MPS: Insufficient privileges; runs share a GPU by time slices")
    (control / "forbidden").unlink()
    answers = []
    monkeypatch.setattr(mps, "free_on_gpu", lambda more: answers.append(more[PIPES]) or (None, "error 805: no server"))
    assert with_service() == ({}, "MPS: error 805: no server; runs share a GPU by time slices")
    assert len(answers) == 3 and calls(control)[-1] == "quit"  # a server that is starting turns processes away at first
    assert gone(f"{control}/daemon")
    monkeypatch.setattr(mps, "_PLACE", str(control / "nowhere"))
    assert with_service()[1].startswith(f"MPS: {control}/nowhere: cannot write: No such file")
    (control / "nvidia-cuda-mps-control").unlink()
    monkeypatch.setenv("PATH", str(control))
    assert with_service()[1] == "MPS: nvidia-cuda-mps-control is not on PATH; runs share a GPU by time slices"
    assert set(Path("/tmp").glob("mixmo-mps-*")) <= before


def test_a_daemon_that_is_there_is_used_and_left_alone(control, monkeypatch):
    environment = {name: value for name, value in os.environ.items() if name != PIPES}
    subprocess.run([control / "nvidia-cuda-mps-control", "-d"], env=environment, check=True, stdout=subprocess.DEVNULL)
    try:
        assert with_service() == ({}, "MPS: the daemon that runs here already is used, and left alone")
        assert calls(control)[1:] == [" sees 5", "get_server_list"]
        monkeypatch.setenv(PIPES, "/run/theirs")
        assert with_service() == ({}, f"MPS: the daemon of {PIPES}=/run/theirs is used, and left alone")
        assert len(calls(control)) == 3 and processes_with(f"{control}/daemon")
    finally:
        os.kill(int((control / "pid").read_text()), signal.SIGTERM)


def test_a_daemon_that_does_not_quit_is_told_of(monkeypatch):
    told: list[str] = []
    monkeypatch.setattr(mps, "_PATIENCE", 0.1)
    with subprocess.Popen(["sh", "-c", "read -r _; sleep 0.5"], stdin=subprocess.PIPE) as guard:
        mps._end(guard, "/tmp/x", told.append)
    asks = f"`echo quit | {PIPES}=/tmp/x nvidia-cuda-mps-control` asks it again"
    assert told == [f"MPS: its daemon has not quit yet; {asks}"]
