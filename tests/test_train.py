"""Training as a user runs it: the run folder, resuming, refusing; on the digits, with the smallest network."""

import io
import itertools
import json
import os
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console

from mixmo_fast.commands import TrainOptions, evaluate_run, save_predictions, train_run
from mixmo_fast.errors import CheckpointError, ConfigError, MixmoError
from mixmo_fast.training import loop
from mixmo_fast.training.checkpoint import Checkpoint, save_checkpoint
from mixmo_fast.training.runlog import read_history
from pipelines.resident import ResidentTraining

CONFIG = """
data: {dataset: digits}
network: {kind: wide_resnet, depth: 10, width: 1, members: 2}
mixing: {method: patch, prob: 0.5}
msda: {method: cutmix}
batch: {rows: 128, repetitions: 2}
optimizer: {lr: 0.05, weight_decay: 0.0006}
schedule: {epochs: 4, warmup_steps: 22, milestones: {3: 0.1}}
checkpoint: {every_epochs: 2}
"""
ROOT = Path(__file__).parents[1]
NOT_REPEATABLE = ("train_seconds", "test_seconds", "rows_per_second")


class Workplace:
    """A folder with a configuration, and the commands run in it."""

    def __init__(self, folder: Path, data: Path, text: str = CONFIG):
        self.folder, self.data = folder, data
        self.config = folder / "tiny.yaml"
        self.config.write_text(text)
        self.run = folder / "runs" / "tiny"
        self.printed = io.StringIO()

    def train(self, *overrides: str, **options) -> Path:
        console = Console(file=self.printed, width=200)
        runs = options.pop("runs", self.folder / "runs")
        return train_run(TrainOptions(self.config, self.data, runs, overrides=overrides, **options), console)

    def checkpoint(self, name: str = "last") -> dict:
        return torch.load(self.run / "checkpoints" / f"{name}.pt", weights_only=True)


@pytest.fixture
def workplace(tmp_path, digits) -> Workplace:
    return Workplace(tmp_path, digits)


@pytest.fixture(scope="module")
def trained(tmp_path_factory, digits) -> Workplace:
    """A finished run that tests only look at."""
    place = Workplace(tmp_path_factory.mktemp("trained"), digits)
    place.train()
    return place


def assert_same_tensors(first: object, second: object) -> None:
    """Equal to the last bit, all the way down."""
    assert type(first) is type(second)
    if isinstance(first, torch.Tensor):
        assert torch.equal(first, second)
    elif isinstance(first, dict):
        assert first.keys() == second.keys()
        for key in first:
            assert_same_tensors(first[key], second[key])
    elif isinstance(first, list):
        for pair in zip(first, second, strict=True):
            assert_same_tensors(*pair)
    else:
        assert first == second


def repeatable(history: list[dict]) -> list[dict]:
    return [{name: value for name, value in row.items() if name not in NOT_REPEATABLE} for row in history]


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
    assert len(list((trained.run / "tensorboard").iterdir())) == 1
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
        assert row["rows_per_second"] == pytest.approx(22 * 128 / row["train_seconds"])
    assert summary["rows_per_second"] == statistics.median(row["rows_per_second"] for row in history)
    # two members, and a partner for half of their images
    assert summary["images_per_second"] == pytest.approx(summary["rows_per_second"] * 2 * 1.5)
    assert summary["versions"]["torch"] == torch.__version__


@pytest.mark.slow
def test_the_quickstart_is_as_accurate_as_the_readme_says(tmp_path, digits):
    """At least 97 % of the test digits; the committed result has the median of three seeds."""
    config = ROOT / "configs" / "quickstart.yaml"
    folder = train_run(TrainOptions(config, digits, tmp_path), Console(file=io.StringIO()))
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["last"]["top1"] >= 0.97


def test_the_best_checkpoint_is_the_best_epochs(trained):
    summary = json.loads((trained.run / "summary.json").read_text())
    best, last = trained.checkpoint("best"), trained.checkpoint("last")
    assert best["epoch"] == summary["best_on_test"]["epoch"]
    assert (last["epoch"], trained.checkpoint("epoch_0002")["epoch"]) == (4, 2)


@pytest.mark.parametrize("stop_at", ["between epochs", "within epoch 3", "before the first checkpoint"])
def test_a_resumed_run_equals_an_uninterrupted_one_bit_for_bit(workplace, trained, monkeypatch, stop_at):
    steps = {"between epochs": 2 * 22, "within epoch 3": 2 * 22 + 9, "before the first checkpoint": 5}[stop_at]
    whole_epoch = ResidentTraining.epoch
    taken = itertools.count()

    def interrupted(self, epoch):
        for batch in whole_epoch(self, epoch):
            # The picture of the first batch looks at some steps, too.
            if loop_is_running and next(taken) == steps:
                raise KeyboardInterrupt
            yield batch

    loop_is_running = False
    start = loop._train_epoch

    def train_epoch(*arguments):
        nonlocal loop_is_running
        loop_is_running = True
        return start(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(ResidentTraining, "epoch", interrupted)
        patch.setattr(loop, "_train_epoch", train_epoch)
        with pytest.raises(KeyboardInterrupt):
            workplace.train()
    workplace.train()
    assert_same_tensors(workplace.checkpoint("last"), trained.checkpoint("last"))
    assert_same_tensors(workplace.checkpoint("best"), trained.checkpoint("best"))
    assert repeatable(read_history(workplace.run)) == repeatable(read_history(trained.run))


@pytest.mark.slow
def test_a_run_killed_in_the_middle_of_an_epoch_continues_bit_for_bit(workplace, trained):
    """A real SIGKILL of a real process, then the same command again."""
    command = [sys.executable, "-m", "mixmo_fast", "train", str(workplace.config)]
    command += ["--data", str(workplace.data), "--runs", str(workplace.folder / "runs")]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)
    last = workplace.run / "checkpoints" / "last.pt"
    deadline = time.monotonic() + 120
    while not last.exists():
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.01)
    time.sleep(0.1)  # into the next epoch
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert len(read_history(workplace.run)) < 4
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    assert_same_tensors(workplace.checkpoint("last"), trained.checkpoint("last"))
    assert repeatable(read_history(workplace.run)) == repeatable(read_history(trained.run))


def test_metrics_of_an_epoch_without_a_checkpoint_are_not_kept_twice(workplace, trained):
    """A crash between the line and the checkpoint: the epoch is repeated, its line written once."""
    workplace.train("schedule.epochs=4")
    lines = (workplace.run / "metrics.jsonl").read_text().splitlines(keepends=True)
    (workplace.run / "checkpoints" / "epoch_0002.pt").replace(workplace.run / "checkpoints" / "last.pt")
    (workplace.run / "metrics.jsonl").write_text("".join(lines[:3]) + '{"epoch": 4, "train_l')
    workplace.train("schedule.epochs=4")
    assert [row["epoch"] for row in read_history(workplace.run)] == [1, 2, 3, 4]
    assert repeatable(read_history(workplace.run)) == repeatable(read_history(trained.run))


def test_a_complete_run_is_left_as_it_is(workplace):
    workplace.train("schedule.epochs=1")
    before = {path: path.stat().st_mtime_ns for path in workplace.run.rglob("*.pt")}
    workplace.train("schedule.epochs=1")
    assert before == {path: path.stat().st_mtime_ns for path in workplace.run.rglob("*.pt")}
    assert "complete" in workplace.printed.getvalue()


def test_another_configuration_does_not_continue_a_run(workplace):
    workplace.train("schedule.epochs=1")
    with pytest.raises(ConfigError, match=r"other settings \(optimizer: it has .*lr: 0.05.*--from-scratch"):
        workplace.train("schedule.epochs=1", "optimizer.lr=0.1")
    with pytest.raises(ConfigError, match=r"other settings \(seed: it has 1, now 2\)"):
        workplace.train("schedule.epochs=1", seed=2)
    workplace.train("schedule.epochs=1", "evaluation.rows=64")  # what does not touch the science may change
    workplace.train("schedule.epochs=1", "optimizer.lr=0.1", from_scratch=True)
    assert read_history(workplace.run)[0]["learning_rate"] == pytest.approx(0.1)


def test_seeds_differ_and_repeat(workplace):
    runs = []
    for seed in (1, 2, 1):
        workplace.train("schedule.epochs=1", seed=seed, from_scratch=True)
        runs.append(workplace.checkpoint()["network"])
    assert_same_tensors(runs[0], runs[2])
    assert not torch.equal(runs[0]["trunk.bn1.weight"], runs[1]["trunk.bn1.weight"])


def test_evaluation_can_be_sparse_but_never_misses_the_end(workplace):
    workplace.train("evaluation.every_epochs=3")
    assert [row["epoch"] for row in read_history(workplace.run) if "top1" in row] == [3, 4]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("members", [1, 3])
def test_other_numbers_of_members_and_bf16_train_too(tmp_path, digits, members, precision):
    text = CONFIG.replace("members: 2", f"members: {members}")
    if members == 1:
        text = text.replace("mixing: {method: patch, prob: 0.5}\n", "")
    place = Workplace(tmp_path, digits, text)
    place.train("schedule.epochs=1", f"step.precision={precision}")
    row = read_history(place.run)[0]
    assert len(row["member_top1"]) == members
    assert row["train_loss"] < 3.2 * members
    assert place.checkpoint()["network"]["trunk.bn1.weight"].dtype == torch.float32


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # torch.compile's own, which change with its releases
def test_compiling_the_step_changes_nothing_beyond_rounding(workplace):
    workplace.train("schedule.epochs=1")
    eager = read_history(workplace.run)[0]
    workplace.train("schedule.epochs=1", "step.compile=true", from_scratch=True)
    compiled = read_history(workplace.run)[0]
    assert compiled["train_loss"] == pytest.approx(eager["train_loss"], rel=1e-3)
    assert (
        workplace.checkpoint()["network"].keys()
        == torch.load(workplace.run / "checkpoints" / "best.pt", weights_only=True)["network"].keys()
    )


def test_a_diverging_run_stops_and_names_the_last_good_checkpoint(workplace):
    workplace.train("schedule.epochs=4", "optimizer.lr=0.05")
    with pytest.raises(MixmoError, match=r"loss of epoch 1 is .*diverged.*lower optimizer.lr"):
        workplace.train("optimizer.lr=1000", "schedule.warmup_steps=0", from_scratch=True)


def test_a_full_disk_is_one_error_and_loses_nothing(workplace):
    """Every write of the checkpoint goes to /dev/full, a device that is always full."""
    workplace.train("schedule.epochs=2")
    before = workplace.checkpoint()
    (workplace.run / "checkpoints" / ".last.pt.tmp").symlink_to("/dev/full")
    checkpoint = Checkpoint(**{name: value for name, value in before.items() if name != "format"})
    with pytest.raises(CheckpointError, match=r"last.pt: cannot write the checkpoint of epoch 2: the disk is full"):
        save_checkpoint(checkpoint, workplace.run / "checkpoints" / "last.pt", [workplace.run / "x.pt"])
    assert_same_tensors(workplace.checkpoint(), before)
    assert not (workplace.run / "checkpoints" / ".last.pt.tmp").exists()
    assert not (workplace.run / "x.pt").exists()


def test_evaluate_repeats_what_training_measured(trained, tmp_path):
    history = read_history(trained.run)
    for which, epoch in (("last", 4), ("2", 2), (str(trained.run / "checkpoints" / "epoch_0002.pt"), 2)):
        found = evaluate_run(trained.config, which, trained.data, trained.folder / "runs", "cpu", print)
        assert found.epoch == epoch
        for name, value in found.scores.as_dict().items():
            assert value == history[epoch - 1][name], name
    by_folder = evaluate_run(trained.run, "last", trained.data, Path("nowhere"), "cpu", print)
    assert (
        by_folder.scores
        == evaluate_run(trained.config, "4", trained.data, trained.folder / "runs", "cpu", print).scores
    )
    save_predictions(by_folder, tmp_path / "predictions.npz")
    kept = np.load(tmp_path / "predictions.npz")
    assert kept["logits"].shape == (359, 2, 10)
    right = kept["logits"].mean(axis=1).argmax(axis=1) == kept["labels"]
    assert right.mean() == pytest.approx(by_folder.scores.top1)


def test_a_checkpoint_of_another_network_is_refused_with_the_first_differences(trained):
    trained.folder.joinpath("wide.yaml").write_text(CONFIG.replace("width: 1", "width: 2"))
    last = str(trained.run / "checkpoints" / "last.pt")
    with pytest.raises(CheckpointError, match=r"another network: .*is \(16, 16, 3, 3\), expected \(32, 16, 3, 3\)"):
        evaluate_run(trained.folder / "wide.yaml", last, trained.data, trained.folder / "runs", "cpu", print)


@pytest.mark.parametrize("damage", ["cut", "noise", "empty"])
def test_a_damaged_checkpoint_is_named(trained, tmp_path, damage):
    content = (trained.run / "checkpoints" / "last.pt").read_bytes()
    bad = tmp_path / "bad.pt"
    bad.write_bytes({"cut": content[: len(content) // 2], "noise": b"hello" * 100, "empty": b""}[damage])
    with pytest.raises(CheckpointError, match=r"bad.pt: not a readable checkpoint"):
        evaluate_run(trained.config, str(bad), trained.data, trained.folder / "runs", "cpu", print)


def test_a_checkpoint_that_would_run_code_is_refused_and_the_code_not_run(trained, tmp_path):
    class Evil:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "ran",))

    torch.save({"format": 1, "network": Evil()}, tmp_path / "evil.pt")
    with pytest.raises(CheckpointError, match=r"evil.pt: not a readable checkpoint"):
        evaluate_run(trained.config, str(tmp_path / "evil.pt"), trained.data, trained.folder / "runs", "cpu", print)
    assert not (tmp_path / "ran").exists()


def test_a_missing_checkpoint_says_which_there_are(trained):
    with pytest.raises(
        CheckpointError, match=r"epoch_0003.pt: no such checkpoint; .* has best, epoch_0002, epoch_0004, last"
    ):
        evaluate_run(trained.config, "3", trained.data, trained.folder / "runs", "cpu", print)
