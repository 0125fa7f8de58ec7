"""Checkpoints are written behind training's back: the state as it was, one at a time, and a run waits for it."""

import threading
import time

import pytest
import torch
from lab import assert_same_tensors, read_history

from mixmo_fast.errors import CheckpointError, DivergedError
from mixmo_fast.training import checkpoint_writer, loop
from mixmo_fast.training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from mixmo_fast.training.checkpoint_writer import CheckpointWriter

CPU = torch.device("cpu")
DEVICES = [
    "cpu",
    pytest.param(
        "cuda",
        marks=[pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")],
    ),
]


def state(epoch: int, device: str = "cpu") -> Checkpoint:
    tensor = torch.full((4, 3, 2, 2), float(epoch), device=device).to(memory_format=torch.channels_last)
    groups = [{"lr": tensor[0, 0, 0, 0], "params": [0]}]
    optimizer = {"state": {0: {"momentum_buffer": tensor + 1}}, "param_groups": groups}
    return Checkpoint(epoch, "", {"weight": tensor}, optimizer, {"scale": 2.0}, "[]")


@pytest.fixture
def held(monkeypatch):
    """Nothing is written until this event is set."""
    event = threading.Event()

    def save(*arguments):
        assert event.wait(60)
        save_checkpoint(*arguments)

    monkeypatch.setattr(checkpoint_writer, "save_checkpoint", save)
    return event


@pytest.fixture
def slow(monkeypatch):
    """Writing takes longer than the steps that the tests take meanwhile."""

    def save(*arguments):
        time.sleep(1)
        save_checkpoint(*arguments)

    monkeypatch.setattr(checkpoint_writer, "save_checkpoint", save)


@pytest.mark.parametrize("device", DEVICES)
def test_what_is_written_is_the_state_when_it_was_saved(held, tmp_path, device):
    live = state(1, device)
    with CheckpointWriter(torch.device(device)) as writer:
        writer.save(live, tmp_path / "last.pt", [tmp_path / "best.pt"])
        for tensor in (live.network["weight"], live.optimizer["state"][0]["momentum_buffer"]):
            tensor.zero_()  # as the next step does
        assert not (tmp_path / "last.pt").exists()
        held.set()
    for name in ("last.pt", "best.pt"):
        assert_same_tensors(vars(load_checkpoint(tmp_path / name)), vars(state(1)))
    # Not moved when it is read: a file of a GPU's is of the CPU, and laid out as training has it.
    weight = torch.load(tmp_path / "last.pt")["network"]["weight"]
    assert weight.device == CPU and weight.is_contiguous(memory_format=torch.channels_last)


def test_one_write_is_pending_and_a_second_waits_for_it(held, tmp_path):
    with CheckpointWriter(CPU) as writer:
        writer.save(state(1), tmp_path / "last.pt")
        threading.Timer(0.2, held.set).start()
        writer.save(state(2), tmp_path / "last.pt", [tmp_path / "best.pt"])
        assert held.is_set()  # the first is written
    assert load_checkpoint(tmp_path / "last.pt").epoch == load_checkpoint(tmp_path / "best.pt").epoch == 2


def fail(monkeypatch) -> None:
    def save(checkpoint, path, _):
        raise CheckpointError(f"{path}: cannot write the checkpoint of epoch {checkpoint.epoch}: the disk is full")

    monkeypatch.setattr(checkpoint_writer, "save_checkpoint", save)


def test_a_failed_write_ends_the_run_at_a_step_of_the_next_epoch(lab, monkeypatch):
    fail(monkeypatch)
    check = CheckpointWriter.check
    seen = []

    def patient(self):
        """The write has failed by the second step."""
        time.sleep(0.1)
        seen.append(self)
        check(self)

    monkeypatch.setattr(CheckpointWriter, "check", patient)
    with pytest.raises(CheckpointError, match=r"last.pt: cannot write the checkpoint of epoch 1: the disk is full"):
        lab.train("schedule.epochs=2")
    assert len(seen) <= 11 + 2 and len(read_history(lab.run)) == 1


def test_a_failed_last_write_leaves_no_summary(lab, monkeypatch):
    fail(monkeypatch)
    with pytest.raises(CheckpointError, match="checkpoint of epoch 1: the disk is full"):
        lab.train("schedule.epochs=1")
    assert not (lab.run / "summary.json").exists() and not list((lab.run / "checkpoints").glob("*"))


@pytest.mark.parametrize("ended_by", [KeyboardInterrupt, DivergedError("the loss")])
def test_whatever_ends_a_run_waits_for_the_writing(lab, slow, monkeypatch, ended_by):
    whole = loop._train_epoch

    def train_epoch(config, step, batches, progress, writer, epoch, *others):
        if epoch == 2:
            raise ended_by
        return whole(config, step, batches, progress, writer, epoch, *others)

    monkeypatch.setattr(loop, "_train_epoch", train_epoch)
    with pytest.raises((KeyboardInterrupt, DivergedError)) as end:
        lab.train("schedule.epochs=2")
    assert load_checkpoint(lab.path()).epoch == 1
    assert end.type is KeyboardInterrupt or f"last good checkpoint is {lab.path()}" in str(end.value)


def test_the_summary_comes_after_the_last_checkpoint(lab, slow):
    lab.train("schedule.epochs=1")
    assert lab.path().stat().st_mtime_ns <= (lab.run / "summary.json").stat().st_mtime_ns
