"""What a person sees while a run trains."""

import io

import pytest
from rich.console import Console

from mixmo_fast.runfolder.records import Epoch
from mixmo_fast.training import progress
from mixmo_fast.training.progress import RunProgress, duration
from mixmo_fast.training.step import EpochSoFar, StepTotals


def shown(monkeypatch, terminal: bool) -> str:
    """Two epochs of three steps on a clock that advances one second a step."""
    clock = iter(range(1000))
    monkeypatch.setattr(progress.time, "perf_counter", lambda: float(next(clock)))
    out = io.StringIO()
    console = Console(file=out, force_terminal=terminal, width=150)
    with RunProgress(console, epochs=2, steps_per_epoch=3) as run:
        for epoch in (1, 2):
            for step in range(3):
                run.step(epoch, step, lambda: StepTotals(loss=1.25, top1=0.5, rows=640))
            run.epoch(
                Epoch(
                    epoch=epoch,
                    train_loss=1.25,
                    top1=0.875,
                    rows_per_second=1234.5,
                    gpu_peak_allocated_bytes=1_440_000_000,
                )
            )
    return out.getvalue()


def test_a_log_file_gets_one_plain_line_an_epoch(monkeypatch):
    lines = shown(monkeypatch, terminal=False).splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("epoch 1/2  loss  1.250  test top-1  87.50 %     1,234 rows/s")
    assert lines[1].endswith("rows/s  GPU memory 1.4 GB  0 s left")
    assert "\x1b" not in "".join(lines)


def test_a_terminal_sees_loss_accuracy_speed_and_time_left_within_an_epoch(monkeypatch):
    text = shown(monkeypatch, terminal=True)
    assert "epoch 2/2  loss 1.250  train top-1 50.0 %" in text
    assert "rows/s" in text
    assert "left" in text


def test_the_device_is_not_waited_for_where_nothing_is_shown():
    def read() -> StepTotals:
        raise AssertionError("reading the totals waits for the device")

    RunProgress(Console(file=io.StringIO()), epochs=1, steps_per_epoch=3).step(1, 0, read)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.4, "0 s"), (59.6, "1 min 00 s"), (185, "3 min 05 s"), (7620, "2 h 07 min"), (777_600 + 7200, "9 d 02 h")],
)
def test_durations_are_said_as_a_person_says_them(seconds, words):
    assert duration(seconds) == words


def test_a_run_that_goes_on_within_an_epoch_counts_from_there(monkeypatch):
    """Two of four steps were taken before, and one more in two seconds; a look at the clock is two seconds later."""
    clock = iter((0.0, 2.0, 4.0))
    monkeypatch.setattr(progress.time, "perf_counter", lambda: next(clock))
    before = EpochSoFar(steps=2, rows=320, loss=2.0, hits=100)
    run = RunProgress(Console(file=io.StringIO(), force_terminal=True, width=150), 1, 4, 1, before)
    run.step(1, 2, lambda: StepTotals(loss=1.0, top1=0.5, rows=480))
    assert "80 rows/s" in run._bar.tasks[0].description
    assert (run._bar.tasks[0].completed, run._bar.tasks[0].fields["left"]) == (3, "4 s left")
