"""What torch compiled is kept where it stays: in the user's cache folder, unless that is chosen or cannot be had."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from lab import ROOT

from mixmo_fast.training.compile_cache import keep_compiled

VARIABLE = "TORCHINDUCTOR_CACHE_DIR"


@pytest.fixture
def place(monkeypatch, tmp_path):
    """The user's cache folder; no place is chosen yet."""
    monkeypatch.setenv(VARIABLE, "")  # so that it is as before when the test is over
    monkeypatch.delenv(VARIABLE)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_it_is_the_users_cache_folder(place, monkeypatch, tmp_path):
    keep_compiled()
    assert Path(os.environ[VARIABLE]) == place / "mixmo-fast" / "torchinductor"
    monkeypatch.delenv(VARIABLE)
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    monkeypatch.setenv("HOME", str(tmp_path))
    keep_compiled()
    assert Path(os.environ[VARIABLE]) == tmp_path / ".cache" / "mixmo-fast" / "torchinductor"


def test_a_place_that_is_chosen_stays_and_one_that_cannot_be_written_is_left_to_torch(place, monkeypatch, tmp_path):
    monkeypatch.setenv(VARIABLE, str(tmp_path / "chosen"))
    keep_compiled()
    assert os.environ[VARIABLE] == str(tmp_path / "chosen")
    assert not place.exists()
    monkeypatch.delenv(VARIABLE)
    place.write_text("a file where the folder would be")
    keep_compiled()
    assert VARIABLE not in os.environ


@pytest.mark.campaign
def test_a_second_start_of_a_compiled_run_compiles_nothing(lab, place):
    code = """
import sys
from contextlib import suppress
from mixmo_fast.cli.app import main
with suppress(SystemExit):
    main()
from torch._dynamo.utils import counters
print("\\n", counters["inductor"]["fxgraph_cache_miss"], counters["inductor"]["fxgraph_cache_hit"])
"""
    command = [sys.executable, "-c", code, "train", lab.config, "--data", lab.data, "--runs", lab.folder / "runs"]
    command += ["--device", "cpu", "--from-scratch", "--no-report"]
    for change in ("schedule.epochs=1", "schedule.milestones={}", "step.compile=true"):
        command += ["--set", change]
    starts = [subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT) for _ in range(2)]
    (missed, hit), (missed_then, hit_then) = (map(int, start.stdout.splitlines()[-1].split()) for start in starts)
    assert missed > 0 == hit and missed_then == 0 < hit_then
    assert any((place / "mixmo-fast" / "torchinductor").rglob("*.so"))
