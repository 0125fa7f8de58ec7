"""What stands for a run on the command line: its folder and the file in it, and what stands there by mistake."""

import shutil
from pathlib import Path

import pytest
from lab import CONFIG
from PIL import Image

import mixmo_fast as mf


@pytest.fixture
def moved(trained, tmp_path) -> Path:
    """A finished run outside of the folder of runs."""
    return Path(shutil.copytree(trained.run, tmp_path / "elsewhere" / "tiny"))


@pytest.mark.parametrize("inside", ["", "config.yaml"])
@pytest.mark.parametrize("there", [True, False])
def test_a_run_folder_or_its_configuration_is_trained_on_in_place(
    command, moved, digits, monkeypatch, tmp_path, inside, there
):
    if there:
        monkeypatch.chdir(moved)
    options = ("--data", digits, "--runs", tmp_path / "runs", "--device", "cpu", "--no-report")
    code, out, err = command("train", (Path() if there else moved) / inside, *options)
    assert (code, err) == (0, "") and out.startswith("tiny: loading torch") and f"{moved} is complete: 4 epochs" in out
    assert not (tmp_path / "runs").exists()


def test_a_name_makes_another_run_of_a_runs_configuration(command, moved, digits, tmp_path):
    options = ("--data", digits, "--runs", tmp_path / "runs", "--device", "cpu", "--no-report")
    short = ("--set", "schedule.epochs=1", "--set", "schedule.milestones={}")
    code, out, err = command("train", moved, "--name", "again", *short, *options)
    assert (code, err) == (0, "") and f"Everything is in {tmp_path / 'runs' / 'again'}" in out


def test_the_library_goes_on_with_a_runs_configuration_in_place(moved, digits, tmp_path):
    for config in (moved, str(moved / "config.yaml")):
        run = mf.train(config, data=digits, runs=tmp_path / "runs", device="cpu", report=False, quiet=True)
        assert run.folder == moved and len(run.history) == 4
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("words", ["evaluate", "inspect"])
def test_a_configuration_in_a_run_folder_stands_for_that_run(command, moved, digits, words):
    code, _, err = command(words, moved / "config.yaml", "--data", digits, "--device", "cpu", "--checkpoint", "7")
    assert code == 2 and f"{moved / 'checkpoints' / 'epoch_0007.pt'}: no such checkpoint; {moved} has best, " in err


def test_a_run_folder_is_previewed_and_explained_by_its_configuration(command, moved, digits, tmp_path):
    said = [command("config", "explain", config, "--data", digits) for config in (moved, moved / "config.yaml")]
    assert said[0] == said[1] and said[0][0] == 0 and "WideResNet of depth 10" in said[0][1]
    code, out, err = command("preview", moved, "--data", digits, "--out", tmp_path / "x.png")
    assert (code, err) == (0, "") and out.startswith("epoch 1, step ")


def picture(path: Path) -> None:
    Image.new("RGB", (8, 8)).save(path, "PNG")


@pytest.mark.parametrize(
    ("make", "found"),
    [
        (picture, "found a picture or another binary file, "),
        (lambda path: path.write_text("<!doctype html>"), "found a page, "),
        (lambda path: path.write_text("x" * 70_000), "found a file of more than 65536 bytes, "),
    ],
)
def test_what_is_no_run_at_a_glance_is_told_what_may_stand_there(command, trained, tmp_path, make, found):
    make(tmp_path / "it")
    code, _, err = command("predict", tmp_path / "it", trained.run)
    assert code == 2 and err.startswith(f"mixmo-fast: {tmp_path / 'it'}: {found}allowed: a run folder, a checkpoint, ")
    assert err.endswith("; pictures come behind it\n") == (make is picture) and err.count("\n") == 1


def test_a_configuration_that_was_never_trained_names_the_command_and_counts_the_other_runs(command, tmp_path):
    config, runs = tmp_path / "small.yaml", tmp_path / "some runs"
    config.write_text(CONFIG)
    for number in range(7):
        (runs / f"r{number}").mkdir(parents=True)
        for name in ("config.yaml", "metrics.jsonl"):
            (runs / f"r{number}" / name).touch()
    _, _, err = command("evaluate", config, "--runs", runs)
    assert f"there is no run {runs / 'small'}, of runs there are {runs / 'r0'}, " in err
    assert f", {runs / 'r4'} and 2 more; `mixmo-fast train {config} --runs '{runs}'` trains it first. " in err


def test_names_that_share_half_their_letters_are_not_near(command, trained, monkeypatch):
    monkeypatch.chdir(trained.folder)
    assert "did you mean" not in command("evaluate", "runs/tool")[2]
    assert "did you mean" not in command("evaluate", trained.run, "--ood", "ditch", "--data", trained.data)[2]


@pytest.mark.parametrize("words", [("train",), ("preview", "--out", "x.png")])
@pytest.mark.parametrize("seed", [-1, 2**63])
def test_a_seed_that_cannot_be_is_told_as_the_option(command, tmp_path, words, seed):
    (tmp_path / "tiny.yaml").write_text(CONFIG)
    code, _, err = command(*words, tmp_path / "tiny.yaml", f"--seed={seed}")
    allowed = f"allowed: a whole number from 0 to {2**63 - 1}"
    assert (code, err) == (2, f"mixmo-fast: --seed: found {seed}, {allowed}\n")


@pytest.mark.parametrize("seconds", ["0", "-1", "nan", "inf"])
def test_a_benchmark_takes_some_time(command, tmp_path, seconds):
    (tmp_path / "tiny.yaml").write_text(CONFIG)
    code, _, err = command("benchmark", tmp_path / "tiny.yaml", f"--seconds={seconds}")
    assert (code, err) == (2, f"mixmo-fast: --seconds: found {seconds}, allowed: a number above 0\n")
