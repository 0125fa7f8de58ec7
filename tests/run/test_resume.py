"""A run that stopped goes on: bit for bit, from whatever is left of it, and never on top of another run."""

import itertools
import os
import signal
import subprocess
import sys
import time

import pytest
from lab import ROOT, assert_same_tensors, read_history, repeatable

from mixmo_fast.errors import CheckpointError, ConfigError, MixmoError
from mixmo_fast.runfolder.lock import hold
from mixmo_fast.training import loop
from pipelines.resident import ResidentTraining


@pytest.mark.parametrize("stop_at", ["between epochs", "within epoch 3", "before the first checkpoint"])
def test_a_resumed_run_equals_an_uninterrupted_one_bit_for_bit(lab, trained, monkeypatch, stop_at):
    steps = {"between epochs": 2 * 11, "within epoch 3": 2 * 11 + 9, "before the first checkpoint": 5}[stop_at]
    whole_epoch = ResidentTraining.epoch
    taken = itertools.count()

    def interrupted(self, epoch, first_step=0):
        for batch in whole_epoch(self, epoch, first_step):
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
            lab.train()
    lab.train()
    assert_same_tensors(lab.checkpoint("last"), trained.checkpoint("last"))
    assert_same_tensors(lab.checkpoint("best"), trained.checkpoint("best"))
    assert repeatable(read_history(lab.run)) == repeatable(read_history(trained.run))


@pytest.mark.slow
def test_a_run_killed_in_the_middle_of_an_epoch_continues_bit_for_bit(lab, trained):
    """A real SIGKILL of a real process, then the same command again."""
    command = [sys.executable, "-m", "mixmo_fast", "train", str(lab.config)]
    command += ["--data", str(lab.data), "--runs", str(lab.folder / "runs")]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)
    last = lab.run / "checkpoints" / "last.pt"
    deadline = time.monotonic() + 120
    while not last.exists():
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.01)
    time.sleep(0.1)  # into the next epoch
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert len(read_history(lab.run)) < 4
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    assert_same_tensors(lab.checkpoint("last"), trained.checkpoint("last"))
    assert repeatable(read_history(lab.run)) == repeatable(read_history(trained.run))


def test_metrics_of_an_epoch_without_a_checkpoint_are_not_kept_twice(lab, trained):
    """A crash between the line and the checkpoint: the epoch is repeated, its line written once."""
    lab.train()
    (lab.run / "summary.json").unlink()
    lines = (lab.run / "metrics.jsonl").read_text().splitlines(keepends=True)
    lab.path("epoch_0002").replace(lab.path())
    (lab.run / "metrics.jsonl").write_text("".join(lines[:3]) + '{"epoch": 4, "train_l')
    lab.train()
    assert [row["epoch"] for row in read_history(lab.run)] == [1, 2, 3, 4]
    assert repeatable(read_history(lab.run)) == repeatable(read_history(trained.run))


@pytest.mark.parametrize("lost", ["metrics.jsonl", "checkpoints/last.pt"])
def test_a_run_goes_on_from_what_is_left_of_it(lab, trained, lost):
    lab.train()
    for name in ("checkpoints/epoch_0004.pt", "checkpoints/best.pt", "summary.json"):
        (lab.run / name).unlink()
    lab.path("epoch_0002").replace(lab.path()) if lost == "metrics.jsonl" else None
    (lab.run / lost).unlink()
    lab.train()
    assert "holds 2 epochs: continuing" in lab.printed.getvalue()
    assert_same_tensors(lab.checkpoint(), trained.checkpoint())
    assert repeatable(read_history(lab.run)) == repeatable(read_history(trained.run))


def test_a_damaged_last_checkpoint_says_how_to_go_on(lab):
    lab.train("schedule.epochs=2")
    lab.path().unlink()  # it shares its bytes with other names
    lab.path().write_bytes(b"damaged")
    with pytest.raises(
        CheckpointError,
        match=r"last.pt: not a readable checkpoint.*remove it to continue from (best|epoch_0002).pt, of epoch 2",
    ):
        lab.train("schedule.epochs=2")
    lab.path().unlink()
    lab.train("schedule.epochs=2")
    assert "is complete: 2 epochs" in lab.printed.getvalue()


def test_a_complete_run_is_left_as_it_is(lab):
    lab.train("schedule.epochs=1")
    before = {path: path.stat().st_mtime_ns for path in lab.run.rglob("*")}
    lab.train("schedule.epochs=1", "step.precision=bf16")
    assert before == {path: path.stat().st_mtime_ns for path in lab.run.rglob("*")}
    assert "is complete: 1 epochs" in lab.printed.getvalue()


def test_another_configuration_does_not_continue_a_run(lab):
    lab.train("schedule.epochs=1")
    with pytest.raises(
        ConfigError, match=r"other settings \(optimizer\.lr: it has 0.05, now [\d.]+\); .*--from-scratch"
    ):
        lab.train("schedule.epochs=1", "optimizer.lr=0.1")
    with pytest.raises(ConfigError, match=r"other settings \(seed: it has 1, now 2\)"):
        lab.train("schedule.epochs=1", seed=2)
    lab.train("schedule.epochs=1", "evaluation.rows=64")  # what does not touch the science may change
    lab.train("schedule.epochs=1", "optimizer.lr=0.1", from_scratch=True)
    assert read_history(lab.run)[0]["learning_rate"] == pytest.approx(0.1)


def test_two_processes_do_not_train_one_run(lab):
    with hold(lab.run), pytest.raises(MixmoError, match=rf"process {os.getpid()} on .* is training this run"):
        lab.train("schedule.epochs=1")
    lab.train("schedule.epochs=1")  # free again
