"""Commands where the output is not a screen in UTF-8: other encodings, closed streams, readers that leave, files."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from lab import ROOT

COMMANDS = {
    "explain": ["config", "explain", "configs/quickstart.yaml"],
    "status": ["status", "{run}"],
    "report": ["report", "{run}"],
}


@pytest.fixture
def a_run(trained, tmp_path) -> Path:
    """A copy of a finished run, into which pages may be written."""
    return Path(shutil.copytree(trained.run, tmp_path / "run"))


def shell(line: str, run: object, **environment: str) -> subprocess.CompletedProcess[str]:
    program = f"{sys.executable} -m mixmo_fast"
    text = line.replace("mixmo-fast", program).replace("{run}", str(run))
    variables = {**os.environ, "COLUMNS": "200", **environment}
    return subprocess.run(["sh", "-c", text], cwd=ROOT, env=variables, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("name", COMMANDS)
def test_an_encoding_without_our_characters_replaces_them(a_run, name):
    line = " ".join(["mixmo-fast", *COMMANDS[name]])
    done = shell(line, a_run, PYTHONIOENCODING="ascii")
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() and done.stdout.isascii()


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-"])
def test_closed_streams_are_nobodys_fault(a_run, closed):
    done = shell(f"mixmo-fast status {{run}} {closed}", a_run)
    assert done.returncode == 0 and "Traceback" not in done.stderr


def test_who_has_seen_enough_gets_no_traceback(a_run):
    done = shell("mixmo-fast config explain configs/quickstart.yaml | head -1", a_run)
    assert len(done.stdout.splitlines()) == 1 and done.stderr == ""


def test_a_log_with_forced_colours_has_no_codes_in_it(lab):
    changes = "--set schedule.epochs=1 --set schedule.milestones={} --no-report --device cpu"
    place = f"--data {lab.data} --runs {lab.folder / 'runs'}"
    done = shell(f"mixmo-fast train {lab.config} {changes} {place}", lab.run, FORCE_COLOR="1", OMP_NUM_THREADS="1")
    assert done.returncode == 0, done.stderr
    assert "epoch 1/1" in done.stdout
    assert "\x1b" not in done.stdout and "\r" not in done.stdout
