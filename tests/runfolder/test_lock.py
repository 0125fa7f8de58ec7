"""The lock of a run folder: one process has it, says who it is, and takes it along when it dies."""

import fcntl
import os
import subprocess
import sys
import threading
from errno import EIO, ENOLCK, EREMOTEIO

import pytest
from lab import ROOT

from mixmo_fast.errors import MixmoError
from mixmo_fast.runfolder.lock import RunHeldError, hold, lock_owner


def test_a_lock_says_who_has_it_and_only_while_they_do(tmp_path):
    folder = tmp_path / "run"
    assert lock_owner(folder) is None
    assert not list(tmp_path.iterdir())  # looking makes nothing
    with hold(folder):
        owner = lock_owner(folder)
        assert owner.startswith(f"process {os.getpid()} on {os.uname().nodename} (") and "since 20" in owner
        with (
            pytest.raises(RunHeldError, match=r"run: process \d+ on .* is training this run; wait for it"),
            hold(folder),
        ):
            pass
    assert lock_owner(folder) is None


def test_a_killed_owner_leaves_no_lock(tmp_path):
    code = (
        "import sys, time; from pathlib import Path; from mixmo_fast.runfolder.lock import hold\n"
        "with hold(Path(sys.argv[1])): print('mine', flush=True); time.sleep(60)"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "run")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdout.readline() == "mine\n"
        assert f"process {process.pid} on" in lock_owner(tmp_path / "run")
        process.kill()
    assert lock_owner(tmp_path / "run") is None
    with hold(tmp_path / "run"):
        pass


def test_looking_never_keeps_anybody_from_training(tmp_path):
    over = threading.Event()

    def look():
        while not over.is_set():
            lock_owner(tmp_path / "run")

    watchers = [threading.Thread(target=look) for _ in range(4)]
    for watcher in watchers:
        watcher.start()
    try:
        for _ in range(30):
            with hold(tmp_path / "run"):
                pass
    finally:
        over.set()
        for watcher in watchers:
            watcher.join()


def test_nothing_is_written_through_a_link_that_stands_for_the_lock(tmp_path):
    victim = tmp_path / "precious.txt"
    victim.write_text("precious")
    (tmp_path / ".run.lock").symlink_to(victim)
    with (
        pytest.raises(MixmoError, match=r"\.run\.lock: .* is a link, which nothing is written through"),
        hold(tmp_path / "run"),
    ):
        pass
    assert victim.read_text() == "precious" and lock_owner(tmp_path / "run") is None


def test_a_pipe_in_the_place_of_the_lock_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / ".run.lock")
    assert lock_owner(tmp_path / "run") is None
    with pytest.raises(MixmoError, match=r"\.run\.lock is no regular file"), hold(tmp_path / "run"):
        pass


@pytest.mark.parametrize("number", [ENOLCK, EIO, EREMOTEIO])
def test_a_file_system_without_locks_is_refused(tmp_path, monkeypatch, number):
    def refuse(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(MixmoError, match="this file system has no locks") as refused, hold(tmp_path / "run"):
        pass
    assert not isinstance(refused.value, RunHeldError)
    assert lock_owner(tmp_path / "run") is None
