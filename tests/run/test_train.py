"""Training as a user runs it: the run folder, settings, divergence; on the digits, with the smallest network."""

import io
import json
import shutil
import statistics
import subprocess
import sys

import pytest
import torch
from lab import CONFIG, ROOT, Lab, assert_same_tensors, read_history
from rich.console import Console

from mixmo_fast.errors import DivergedError, MixmoError
from mixmo_fast.evaluation.metrics import evaluate_logits
from mixmo_fast.files import write_text
from mixmo_fast.run.train import train_run
from mixmo_fast.training import loop
from mixmo_fast.training.checkpoint import load_checkpoint


def test_the_run_folder_holds_everything(trained):
    files = {str(path.relative_to(trained.run)) for path in trained.run.rglob("*") if path.is_file()}
    files = {name for name in files if not name.startswith("tensorboard/")}
    assert files == {
        "config.yaml",
        "environment.json",
        "metrics.jsonl",
        "metrics.csv",
        "summary.json",
        "learning_curves.png",
        "first_batch.png",
        *(f"checkpoints/{name}.pt" for name in ("last", "best", "epoch_0002", "epoch_0004")),
    }
    assert sorted(path.parent.name for path in trained.run.rglob("events.*")) == ["by_step", "tensorboard"]
    assert len((trained.run / "metrics.csv").read_text().splitlines()) == 5


def test_the_summary_says_what_was_reached_and_how_fast(trained):
    summary = json.loads((trained.run / "summary.json").read_text())
    history = read_history(trained.run)
    assert summary["dataset"] == "digits"
    assert summary["config"] == "tiny"
    assert (summary["seed"], summary["epochs"]) == (1, 4)
    assert (summary["pipeline"], summary["precision"]) == ("resident", "fp32")
    assert summary["device"].startswith("cpu")
    for name in ("top1", "top5", "nll", "ece", "member_top1", "diversity"):
        assert summary["last"][name] == history[-1][name]
    best = max(history, key=lambda row: row["top1"])
    assert summary["best_on_test"]["top1"] == best["top1"]
    assert history[summary["best_on_test"]["epoch"] - 1]["top1"] == best["top1"]
    assert summary["train_seconds"] == pytest.approx(sum(row["train_seconds"] for row in history))
    for row in history:
        assert row["rows_per_second"] == pytest.approx(11 * 64 / row["train_seconds"])
    assert summary["rows_per_second"] == statistics.median(row["rows_per_second"] for row in history)
    # two members, and a partner for half of their images
    assert summary["images_per_second"] == pytest.approx(summary["rows_per_second"] * 2 * 1.5)
    assert summary["versions"]["torch"] == torch.__version__
    peaks = [row["process_peak_resident_bytes"] for row in history]
    assert summary["peak_memory"] == {"process_peak_resident_bytes": peaks[-1]} and peaks == sorted(peaks)
    assert 10**8 < peaks[-1] < 10**11
    assert trained.printed.getvalue().count("process memory") == len(history)


def test_nothing_is_drawn_before_the_first_step(lab):
    """Matplotlib takes a second to import; the first batch is drawn when the first epoch is over."""
    code = """
import sys
from pathlib import Path
from rich.console import Console
from mixmo_fast.run import train
from mixmo_fast.training.step import TrainingStep

loaded, step = [], TrainingStep.__call__
def watched(*arguments):
    loaded.append("matplotlib" in sys.modules)
    return step(*arguments)
TrainingStep.__call__ = watched
config, data, runs = map(Path, sys.argv[1:])
places = {"data": data, "runs": runs, "device": "cpu", "report": False}
train.train_run(config, Console(quiet=True), overrides=["schedule.epochs=1"], **places)
print(any(loaded), len(loaded), "matplotlib" in sys.modules)
"""
    command = [sys.executable, "-c", code, str(lab.config), str(lab.data), str(lab.folder / "runs")]
    found = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    drawn_before, steps, drawn = found.stdout.split()
    assert (drawn_before, drawn) == ("False", "True") and int(steps) > 1


def test_a_picture_that_an_interrupted_run_owes_is_drawn_when_it_goes_on(lab):
    lab.train("schedule.epochs=2", "mixing.decay_from=1")
    picture = lab.run / "first_batch.png"
    picture.unlink()
    lab.train("schedule.epochs=3", "mixing.decay_from=1", extend=True)
    assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_the_quickstart_is_as_accurate_as_the_readme_says(tmp_path, digits):
    """At least 97 % of the test digits; the committed result has the median of three seeds."""
    config = ROOT / "configs" / "quickstart.yaml"
    folder = train_run(config, Console(file=io.StringIO()), data=digits, runs=tmp_path)
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["last"]["top1"] >= 0.97


def test_the_best_checkpoint_is_the_best_epochs(trained):
    summary = json.loads((trained.run / "summary.json").read_text())
    best, last = trained.checkpoint("best"), trained.checkpoint("last")
    assert best["epoch"] == summary["best_on_test"]["epoch"]
    assert (last["epoch"], trained.checkpoint("epoch_0002")["epoch"]) == (4, 2)


def test_of_equally_good_epochs_the_latest_is_the_best(lab, monkeypatch):
    """As in the authors' implementation."""
    scores = evaluate_logits(torch.eye(10).unsqueeze(1).expand(-1, 2, -1), torch.arange(10) // 2)
    monkeypatch.setattr(loop, "evaluate", lambda *_: scores)
    lab.train("schedule.epochs=3")
    summary = json.loads((lab.run / "summary.json").read_text())
    assert len({row["top1"] for row in read_history(lab.run)}) == 1
    assert summary["best_on_test"]["epoch"] == lab.checkpoint("best")["epoch"] == 3


def test_seeds_differ_and_repeat(lab):
    runs = []
    for seed in (1, 2, 1):
        lab.train("schedule.epochs=1", seed=seed, from_scratch=True)
        runs.append(lab.checkpoint()["network"])
    assert_same_tensors(runs[0], runs[2])
    assert not torch.equal(runs[0]["trunk.bn1.weight"], runs[1]["trunk.bn1.weight"])


def test_evaluation_can_be_sparse_but_never_misses_the_end(lab):
    lab.train("evaluation.every_epochs=3")
    assert [row["epoch"] for row in read_history(lab.run) if "top1" in row] == [3, 4]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("members", [1, 3])
def test_other_numbers_of_members_and_bf16_train_too(tmp_path, digits, members, precision):
    text = CONFIG.replace("members: 2", f"members: {members}")
    if members == 1:
        text = text.replace("mixing: {method: patch, prob: 0.5}\n", "")
    place = Lab(tmp_path, digits, text)
    place.train("schedule.epochs=1", f"step.precision={precision}")
    row = read_history(place.run)[0]
    assert len(row["member_top1"]) == members
    assert row["train_loss"] < 3.2 * members
    assert place.checkpoint()["network"]["trunk.bn1.weight"].dtype == torch.float32


def test_a_diverging_run_stops_and_names_the_last_good_checkpoint(lab):
    """The rate explodes at a milestone, after an epoch that went well."""
    with pytest.raises(
        DivergedError, match=r"epoch 2 .*diverged.*is .*last.pt; try an optimizer.lr below 1 or a longer"
    ):
        lab.train("data.holdout=0", "batch.rows=128", "optimizer.lr=1", "schedule.milestones={2: 1000}")
    assert load_checkpoint(lab.path()).epoch == 1


def test_divergence_that_only_the_evaluation_sees_is_the_same_error(lab):
    overrides = ("optimizer.lr=1000", "schedule.warmup_steps=0", "batch.rows=719", "batch.repetitions=1")
    with pytest.raises(DivergedError, match=r"after epoch \d the network's outputs .* not finite: training diverged"):
        lab.train(*overrides)


def test_a_run_ends_with_its_page(lab):
    lab.train("schedule.epochs=1", "schedule.milestones={}", report=True)
    summary = json.loads((lab.run / "summary.json").read_text())
    of_last = lab.run / "evaluations" / "last"
    evaluation = json.loads((of_last / "evaluation.json").read_text())
    assert evaluation["checkpoint"].endswith("last.pt")
    for name in ("top1", "nll", "ece", "tace", "member_top1", "disagreement"):
        assert evaluation[name] == summary["last"][name]
    page = lab.run / "report.html"
    assert "The recipe in plain words" in page.read_text()
    assert str(page) in lab.printed.getvalue()
    assert {path.stem for path in lab.run.glob("*.png")} == {"first_batch", "learning_curves", "members"}
    assert {path.stem for path in of_last.glob("*.png")} == {"reliability", "confusion", "selective"}
    before = page.stat().st_mtime_ns
    lab.train("schedule.epochs=1", "schedule.milestones={}", report=True)  # complete, so nothing is to be done
    assert page.stat().st_mtime_ns == before
    page.unlink()
    lab.train("schedule.epochs=1", "schedule.milestones={}", report=True)  # it died before the page was written
    assert page.is_file()
    lab.train("schedule.epochs=1", "schedule.milestones={}", from_scratch=True)
    assert not page.exists() and len(list(lab.run.rglob("events.*"))) == 2
    assert not of_last.exists()


def test_a_file_where_a_folder_should_be_is_one_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(MixmoError, match=r"file/deep/x.json: cannot write: "):
        write_text(tmp_path / "file" / "deep" / "x.json", "{}")


@pytest.mark.parametrize("name", ["checkpoints", "tensorboard", "tensorboard/by_step"])
def test_from_scratch_removes_nothing_through_a_link(trained, digits, tmp_path, name):
    lab = Lab(tmp_path, digits)
    shutil.copytree(trained.run, lab.run)
    elsewhere = tmp_path / "elsewhere"
    (lab.run / name).rename(elsewhere)
    (lab.run / name).symlink_to(elsewhere)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(MixmoError, match=f"tiny/{name}: is a link, which nothing is removed through; remove it first"):
        lab.train(from_scratch=True)
    assert [path for path in sorted(tmp_path.rglob("*")) if path.name != ".tiny.lock"] == before
