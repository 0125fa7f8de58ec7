"""`train --name`: the run's folder is that name's, whatever the configuration's file is called."""

from pathlib import Path

import pytest
from lab import CONFIG


@pytest.fixture
def place(tmp_path, digits) -> tuple[Path, tuple[object, ...]]:
    """A configuration's file, and the options of a short run."""
    config = tmp_path / "tiny.yaml"
    config.write_text(CONFIG)
    return config, ("--data", digits, "--runs", tmp_path / "runs", "--device", "cpu")


def test_a_named_run_is_trained_continued_begun_anew_and_looked_at_by_its_name(command, place, tmp_path):
    config, options = place
    run = tmp_path / "runs" / "my run"
    train = ("train", config, "--name", "my run", *options, "--no-report")
    code, out, err = command(*train, "--set", "schedule.epochs=1")
    assert (code, err) == (0, "") and "my run: " in out
    assert [path.name for path in (tmp_path / "runs").glob("[!.]*")] == ["my run"]
    code, out, _ = command(*train, "--set", "schedule.epochs=1")
    assert code == 0 and f"{run} is complete: 1 epochs" in out
    code, out, _ = command(*train, "--set", "schedule.epochs=1", "--from-scratch")
    assert code == 0 and "epoch 1/1" in out
    code, out, _ = command("evaluate", run, *options)
    assert code == 0 and f"pictures are in {run}" in out
    code, out, _ = command("status", run)
    assert code == 0 and "my run" in out
    code, _, err = command("evaluate", config, *options)
    assert code == 2 and f"there is no run {run.with_name('tiny')}, of runs there are {run}" in err


@pytest.mark.parametrize(
    "name", ["", ".", "..", "a/b", "/tmp", "-x", ".hidden", " ", "a ", "a\nb", "x" * 201, "é" * 101]
)
def test_a_name_that_no_folder_can_have_is_one_line(command, place, tmp_path, name):
    config, options = place
    code, out, err = command("train", config, f"--name={name}", *options)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("mixmo-fast: name: found '") and "allowed: that of a folder" in err
    assert not (tmp_path / "runs").exists()


def test_what_is_no_run_folder_brings_the_near_ones_to_mind(command, trained, monkeypatch):
    monkeypatch.chdir(trained.folder)
    for words in (("evaluate", "tinny"), ("inspect", "runs/tin"), ("predict", "runs/Tiny", "x"), ("export", "tini")):
        form = ("--format", "onnx") if words[0] == "export" else ()
        code, _, err = command(*words, *form)
        assert (code, err.count("\n")) == (2, 1)
        assert f"{words[1]}: not there; allowed: a run folder, a checkpoint, or" in err and err.endswith(
            "; did you mean runs/tiny?\n"
        )
    assert "did you mean" not in command("evaluate", "quickstart")[2]
