"""A signal that asks a training to stop: it saves where it is, within the epoch, and goes on from there bit for bit."""

import os
import signal
import subprocess
import sys
import time

import pytest
from lab import ROOT, STEPS, Lab, assert_same_tensors, loss_by_step, read_history, repeatable, signal_at, stopped_at

from mixmo_fast.errors import CheckpointError, Stopped
from mixmo_fast.training import loop
from mixmo_fast.training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from mixmo_fast.training.step import EpochSoFar
from mixmo_fast.training.stopping import Often, stop_requests
from mixmo_fast.training.within import Within, parse_within

SO_FAR = {"steps": 3, "rows": 192, "loss": 9.0, "hits": 40}
ONE_THREAD = os.environ | {"OMP_NUM_THREADS": "1"}


def assert_same_run(lab: Lab, expected: Lab) -> None:
    for name in ("last", "best"):
        assert_same_tensors(lab.checkpoint(name), expected.checkpoint(name))
    assert repeatable(read_history(lab.run)) == repeatable(read_history(expected.run))


@pytest.mark.parametrize("step", [0, 6, STEPS - 2])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_run_goes_on_in_the_middle_of_its_epoch_bit_for_bit(lab, trained, monkeypatch, step, number):
    before = signal.getsignal(number)
    with monkeypatch.context() as patch:
        signal_at(patch, 2, step, number)
        with pytest.raises(Stopped, match=f"in epoch 2, after step {step + 1} of {STEPS}"):
            lab.train()
    assert signal.getsignal(number) == before
    saved = load_checkpoint(lab.path())
    assert saved.epoch == 1 and saved.within["ranks"][0]["steps"] == step + 1
    assert len(read_history(lab.run)) == 1
    lab.train()
    assert_same_run(lab, trained)


@pytest.mark.parametrize("pipeline", ["ffcv", "dali", "reference"])
def test_every_pipeline_goes_on_there(lab, trained, monkeypatch, pipeline):
    if package := {"ffcv": "ffcv", "dali": "nvidia.dali"}.get(pipeline):
        pytest.importorskip(package)
    with monkeypatch.context() as patch:
        signal_at(patch, 3, 4, signal.SIGTERM)
        with pytest.raises(Stopped):
            lab.train(pipeline=pipeline, workers=1)
    lab.train(pipeline=pipeline, workers=1)
    assert_same_run(lab, trained)


def test_a_run_stopped_again_and_again_ends_as_one_that_never_was(lab, trained, monkeypatch):
    """Within its first epoch, before there is any checkpoint; twice within one; at the last step of one."""
    stopped_at(lab, monkeypatch, (1, 3), (1, 7), (2, STEPS - 1), (4, 1))
    lab.train()
    assert_same_run(lab, trained)


def test_at_the_last_step_the_epoch_is_finished_first(lab, monkeypatch):
    signal_at(monkeypatch, 1, STEPS - 1, signal.SIGTERM)
    with pytest.raises(Stopped, match="after epoch 1"):
        lab.train()
    saved = load_checkpoint(lab.path())
    assert (saved.epoch, saved.within) == (1, {}) and len(read_history(lab.run)) == 1


def test_in_the_last_step_of_all_the_run_just_ends(lab, trained, monkeypatch):
    signal_at(monkeypatch, 4, STEPS - 1, signal.SIGTERM)
    lab.train()
    assert_same_run(lab, trained)


def test_long_epochs_are_saved_on_the_way(lab, monkeypatch):
    """With a clock that has run out at every step."""
    monkeypatch.setattr(Often, "is_due", lambda _: True)
    saved, whole = [], loop._checkpoint

    def noted(*arguments):
        saved.append(arguments[-1])
        return whole(*arguments)

    monkeypatch.setattr(loop, "_checkpoint", noted)
    lab.train("schedule.epochs=1", "schedule.milestones={}")
    assert saved.pop() is None  # at the end
    assert [one.steps for one in saved] == list(range(1, STEPS))
    assert load_checkpoint(lab.path()).within == {}


def test_minutes_are_counted_from_the_last_time(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    often, never = Often(2.0), Often(None)
    due = []
    for now[0] in (150.0, 220.0, 221.0, 339.0, 340.0):
        due.append(often.is_due())
        assert not never.is_due()
    assert due == [False, True, False, False, True]


def test_a_second_signal_does_what_it_always_did():
    asked = []
    before = signal.signal(signal.SIGUSR1, lambda *_: asked.append("before"))
    try:
        with stop_requests() as request:
            os.kill(os.getpid(), signal.SIGUSR1)
            assert request.by == "SIGUSR1" and asked == []
            os.kill(os.getpid(), signal.SIGUSR1)
            assert asked == ["before"]
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_another_number_of_processes_cannot_finish_the_epoch():
    marks = ((2, 5.0), (3, 7.5))
    within = Within(1.5, (EpochSoFar(3, 96, 7.5, 40, marks), EpochSoFar(3, 96, 7.25, 41, marks)))
    assert parse_within(within.as_dict(), 2, "x") == within
    with pytest.raises(CheckpointError, match="stopped within an epoch that 2 processes had begun, found 1"):
        parse_within(within.as_dict(), 1, "runs/x")


@pytest.mark.parametrize(
    "within",
    [
        *({"seconds": "x", "ranks": []}, {"seconds": 1.0, "ranks": []}, {"seconds": 1.0, "ranks": [{"steps": 1}]}),
        *({"seconds": 1.0, "ranks": [SO_FAR | {"marks": marks}]} for marks in (3, [1], [[1, 2]], [[4, 2.0]])),
        {"seconds": 1.0, "ranks": [SO_FAR | {"marks": [[2, 2.0]]}, SO_FAR]},
    ],
)
def test_a_damaged_place_is_one_line(lab, within):
    lab.train("schedule.epochs=1", "schedule.milestones={}")
    (lab.run / "summary.json").unlink()
    save_checkpoint(Checkpoint(**vars(load_checkpoint(lab.path())) | {"within": within}), lab.path())
    with pytest.raises(CheckpointError, match="damaged checkpoint: within: not a place in an epoch"):
        lab.train("schedule.epochs=1", "schedule.milestones={}")


def command_of(lab: Lab, ranks: int) -> list[str]:
    changes = ["--set", "schedule.epochs=3", "--set", "schedule.milestones={}", "--set", "batch.rows=8", "--no-report"]
    changes += ["--set", "msda=null", "--set", "step.compile=false"]
    several = ["-m", "torch.distributed.run", f"--nproc-per-node={ranks}"] if ranks > 1 else []
    command = [sys.executable, *several, "-m", "mixmo_fast", "train", str(lab.config), "--device", "cpu", *changes]
    return [*command, "--data", str(lab.data), "--runs", str(lab.folder / "runs")]


def stop_in_the_third_epoch(command: list[str]) -> tuple[int, str]:
    """Its exit code, and what it says of it."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, cwd=ROOT, env=ONE_THREAD, **pipes) as process:
        for line in process.stdout:
            if line.startswith("epoch 2/3"):  # behind the first a picture is drawn, which takes seconds
                break
        time.sleep(0.3)
        process.send_signal(signal.SIGTERM)
        _, complaint = process.communicate(timeout=60)
    return process.returncode, complaint


@pytest.mark.slow
def test_the_command_ends_with_143_and_a_line(lab):
    code, complaint = stop_in_the_third_epoch(command_of(lab, ranks=1))
    assert code == 143
    assert "mixmo-fast: stopped in epoch 3, after step " in complaint
    assert "the same command continues from there" in complaint and "Traceback" not in complaint


@pytest.mark.campaign
def test_several_ranks_stop_at_the_same_step_and_go_on_bit_for_bit(lab):
    """Whichever of them is asked first."""
    command = command_of(lab, ranks=2)
    stop_in_the_third_epoch(command)
    saved = load_checkpoint(lab.path())
    assert saved.epoch == 2 and len({one["steps"] for one in saved.within["ranks"]}) == 1 < len(saved.within["ranks"])
    done = subprocess.run(command, cwd=ROOT, env=ONE_THREAD, capture_output=True, text=True, check=True)
    assert "epoch 3/3" in done.stdout and "epoch 2/3" not in done.stdout
    (lab.folder / "whole").mkdir()
    never = Lab(lab.folder / "whole", lab.data)
    subprocess.run(command_of(never, ranks=2), cwd=ROOT, env=ONE_THREAD, capture_output=True, check=True)
    assert_same_run(lab, never)
    assert loss_by_step(lab.run) == loss_by_step(never.run)
