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

from mixmo_fast.errors import CheckpointError, ConfigError, DivergedError
from mixmo_fast.evaluate_command import evaluate_run, save_predictions
from mixmo_fast.train_command import TrainOptions, train_run
from mixmo_fast.training import loop
from mixmo_fast.training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
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

    def path(self, name: str = "last") -> Path:
        return self.run / "checkpoints" / f"{name}.pt"

    def checkpoint(self, name: str = "last") -> dict:
        """All of it but the history, which has times."""
        return {key: value for key, value in vars(load_checkpoint(self.path(name))).items() if key != "history"}

    def evaluate(self, which: str = "last", target: Path | None = None):
        return evaluate_run(target or self.config, which, self.data, self.folder / "runs", "cpu", print)


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
    workplace.train()
    (workplace.run / "summary.json").unlink()
    lines = (workplace.run / "metrics.jsonl").read_text().splitlines(keepends=True)
    workplace.path("epoch_0002").replace(workplace.path())
    (workplace.run / "metrics.jsonl").write_text("".join(lines[:3]) + '{"epoch": 4, "train_l')
    workplace.train()
    assert [row["epoch"] for row in read_history(workplace.run)] == [1, 2, 3, 4]
    assert repeatable(read_history(workplace.run)) == repeatable(read_history(trained.run))


@pytest.mark.parametrize("lost", ["metrics.jsonl", "checkpoints/last.pt"])
def test_a_run_goes_on_from_what_is_left_of_it(workplace, trained, lost):
    workplace.train()
    for name in ("checkpoints/epoch_0004.pt", "checkpoints/best.pt", "summary.json"):
        (workplace.run / name).unlink()
    workplace.path("epoch_0002").replace(workplace.path()) if lost == "metrics.jsonl" else None
    (workplace.run / lost).unlink()
    workplace.train()
    assert "holds 2 epochs: continuing" in workplace.printed.getvalue()
    assert_same_tensors(workplace.checkpoint(), trained.checkpoint())
    assert repeatable(read_history(workplace.run)) == repeatable(read_history(trained.run))


def test_a_damaged_last_checkpoint_says_how_to_go_on(workplace):
    workplace.train("schedule.epochs=2")
    workplace.path().unlink()  # it shares its bytes with other names
    workplace.path().write_bytes(b"damaged")
    with pytest.raises(CheckpointError, match=r"last.pt: not a readable checkpoint.*remove it to .*epoch_0002"):
        workplace.train("schedule.epochs=2")
    workplace.path().unlink()
    workplace.train("schedule.epochs=2")
    assert "is complete: 2 epochs" in workplace.printed.getvalue()


def test_a_complete_run_is_left_as_it_is(workplace):
    workplace.train("schedule.epochs=1")
    before = {path: path.stat().st_mtime_ns for path in workplace.run.rglob("*")}
    workplace.train("schedule.epochs=1", "step.precision=bf16")
    assert before == {path: path.stat().st_mtime_ns for path in workplace.run.rglob("*")}
    assert "is complete: 1 epochs" in workplace.printed.getvalue()


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
    eager, names = read_history(workplace.run)[0], load_checkpoint(workplace.path()).network.keys()
    workplace.train("schedule.epochs=1", "step.compile=true", from_scratch=True)
    compiled = read_history(workplace.run)[0]
    assert compiled["train_loss"] == pytest.approx(eager["train_loss"], rel=1e-3)
    assert load_checkpoint(workplace.path()).network.keys() == names


def test_a_diverging_run_stops_and_names_the_last_good_checkpoint(workplace):
    """The rate explodes at a milestone, after an epoch that went well."""
    with pytest.raises(DivergedError, match=r"epoch 2 .*diverged.*good checkpoint is .*last.pt; try a lower"):
        workplace.train("optimizer.lr=1", "schedule.milestones={2: 1000}")
    assert load_checkpoint(workplace.path()).epoch == 1


def test_divergence_that_only_the_evaluation_sees_is_the_same_error(workplace):
    overrides = ("optimizer.lr=1000", "schedule.warmup_steps=0", "batch.rows=1438", "batch.repetitions=1")
    with pytest.raises(DivergedError, match=r"after epoch \d the network's outputs .* not finite: training diverged"):
        workplace.train(*overrides)


@pytest.fixture
def full_disk(monkeypatch):
    """Every byte of a new temporary file goes to /dev/full, a device that is always full."""
    whole_open = Path.open

    def open_full(self, mode="r", *arguments, **options):
        return whole_open(Path("/dev/full"), "wb") if mode == "xb" else whole_open(self, mode, *arguments, **options)

    monkeypatch.setattr(Path, "open", open_full)


def again(content: dict) -> Checkpoint:
    return Checkpoint(**content, history="[]")


def test_a_full_disk_is_one_error_and_loses_nothing(trained, request):
    before = trained.checkpoint()
    request.getfixturevalue("full_disk")
    with pytest.raises(CheckpointError, match=r"last.pt: cannot write the checkpoint of epoch 4: the disk is full"):
        save_checkpoint(again(before), trained.path(), [trained.path("alias")])
    assert_same_tensors(trained.checkpoint(), before)
    assert not trained.path("alias").exists()
    assert not list(trained.run.glob("checkpoints/.*"))


def test_an_error_of_the_device_is_not_taken_for_a_full_disk(trained, monkeypatch):
    def fail(*_):
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(RuntimeError, match="illegal memory access"):
        save_checkpoint(again(trained.checkpoint()), trained.path())


def test_a_death_between_alias_and_last_does_not_endanger_the_alias(workplace):
    """What such a death leaves: the temporary name is a second link to the best checkpoint."""
    workplace.train("schedule.epochs=1")
    before = workplace.checkpoint("best")
    os.link(workplace.path("best"), workplace.path("last").with_name(".last.pt.tmp"))
    save_checkpoint(again(before | {"epoch": 7}), workplace.path())
    assert workplace.checkpoint()["epoch"] == 7
    assert_same_tensors(workplace.checkpoint("best"), before)


def test_evaluate_repeats_what_training_measured(trained, tmp_path):
    history = read_history(trained.run)
    for which, epoch in (("last", 4), ("2", 2), ("4", 4), (str(trained.path("epoch_0002")), 2)):
        found = trained.evaluate(which)
        assert found.epoch == epoch
        for name, value in found.scores.as_dict().items():
            assert value == history[epoch - 1][name], name
    by_folder = trained.evaluate("last", trained.run)
    assert by_folder.scores == trained.evaluate("last").scores
    save_predictions(by_folder, tmp_path / "predictions.npz")
    kept = np.load(tmp_path / "predictions.npz")
    assert kept["logits"].shape == (359, 2, 10)
    right = kept["logits"].mean(axis=1).argmax(axis=1) == kept["labels"]
    assert right.mean() == pytest.approx(by_folder.scores.top1)


def test_evaluate_uses_the_configuration_that_was_trained(workplace):
    """Overrides on the command line are in the checkpoint, not in the file."""
    workplace.train("schedule.epochs=1", "network.width=2")
    assert workplace.evaluate().scores.top1 == read_history(workplace.run)[0]["top1"]


def test_a_network_trained_in_fp16_is_evaluated_on_a_cpu_in_fp32(workplace):
    workplace.train("schedule.epochs=1")
    content = vars(load_checkpoint(workplace.path()))
    content["config"] = content["config"].replace("precision: auto", "precision: fp16")
    save_checkpoint(Checkpoint(**content), workplace.path())
    assert "fp16" in content["config"]
    assert workplace.evaluate().scores.top1 == read_history(workplace.run)[0]["top1"]


def test_a_checkpoint_of_another_network_is_refused(trained, tmp_path, digits):
    other = Workplace(tmp_path, digits, CONFIG.replace("width: 1", "width: 2"))
    with pytest.raises(CheckpointError, match=r"another network or data set \(wide_resnet-10-1.*wide_resnet-10-2"):
        other.evaluate(str(trained.path()))


def test_weights_that_do_not_fit_are_refused_with_the_first_differences(trained, tmp_path):
    content = vars(load_checkpoint(trained.path()))
    content["network"] = {name.replace("heads.1", "heads.7"): value for name, value in content["network"].items()}
    save_checkpoint(Checkpoint(**content), tmp_path / "x.pt")
    with pytest.raises(CheckpointError, match=r"another network: heads.1.weight is missing; heads.1.bias is missing; "):
        trained.evaluate(str(tmp_path / "x.pt"))


@pytest.mark.parametrize("damage", ["cut", "noise", "empty"])
def test_a_damaged_checkpoint_is_named(trained, tmp_path, damage):
    content = (trained.run / "checkpoints" / "last.pt").read_bytes()
    bad = tmp_path / "bad.pt"
    bad.write_bytes({"cut": content[: len(content) // 2], "noise": b"hello" * 100, "empty": b""}[damage])
    with pytest.raises(CheckpointError, match=r"bad.pt: not a readable checkpoint"):
        trained.evaluate(str(bad))


def test_a_checkpoint_that_would_run_code_is_refused_and_the_code_not_run(trained, tmp_path):
    class Evil:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "ran",))

    torch.save({"format": 1, "network": Evil()}, tmp_path / "evil.pt")
    with pytest.raises(CheckpointError, match=r"evil.pt: not a readable checkpoint"):
        trained.evaluate(str(tmp_path / "evil.pt"))
    assert not (tmp_path / "ran").exists()


def test_a_missing_checkpoint_says_which_there_are(trained):
    with pytest.raises(
        CheckpointError, match=r"epoch_0003.pt: no such checkpoint; .* has best, epoch_0002, epoch_0004, last"
    ):
        trained.evaluate("3")
