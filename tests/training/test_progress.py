"""What a person sees while a run trains."""

import io
import re

import pytest
from rich.console import Console

from mixmo_fast.runfolder.records import Epoch
from mixmo_fast.training import progress
from mixmo_fast.training.progress import RunProgress, duration
from mixmo_fast.training.step import EpochSoFar, StepTotals


def shown(monkeypatch, terminal: bool, width: int = 150, epochs: int = 2) -> str:
    """Two epochs of three steps on a clock that advances one second a step."""
    clock = iter(range(1000))
    monkeypatch.setattr(progress.time, "perf_counter", lambda: float(next(clock)))
    out = io.StringIO()
    console = Console(file=out, force_terminal=terminal, width=width)
    with RunProgress(console, epochs=epochs, steps_per_epoch=3) as run:
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


@pytest.mark.parametrize(("width", "words"), [(80, "test  87.50 %     1,234 rows/s"), (60, "test  87.50 %")])
def test_lines_and_bar_fit_a_narrow_terminal(monkeypatch, width, words):
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown(monkeypatch, terminal=True, width=width, epochs=300))
    lines = [line for line in re.split(r"[\r\n]+", text) if line]
    assert max(map(len, lines)) <= width and "…" not in text
    assert f"epoch   1/300  loss  1.250  {words}" in text
    assert any("min" in line and line.rstrip().endswith("left") and "━" in line for line in lines)


@pytest.mark.parametrize("terminal", [False, True])
def test_what_is_waited_for_before_the_first_step_is_named(monkeypatch, terminal):
    now = [0.0]
    monkeypatch.setattr(progress.time, "perf_counter", lambda: now[0])
    out = io.StringIO()
    with RunProgress(Console(file=out, force_terminal=terminal, width=150), epochs=1, steps_per_epoch=3) as run:
        run.now("compiling the training step")
        if run._bar is not None:
            assert run._bar.tasks[0].description == "compiling the training step"
        now[0] = 31.0
        run.step(1, 0, lambda: StepTotals(loss=1.0, top1=0.5, rows=1))
    said = out.getvalue()
    if terminal:
        assert run._bar.tasks[0].description.startswith("epoch 1/1")
    else:
        assert said.splitlines() == ["compiling the training step ...", "the first step took 31 s"]


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


def pace(monkeypatch, times, before=None, steps=10, rows_per_step=160):
    """A run of one epoch on a clock; what its bar says after each step."""
    now = [0.0]
    monkeypatch.setattr(progress.time, "perf_counter", lambda: now[0])
    run = RunProgress(Console(file=io.StringIO(), force_terminal=True, width=150), 1, steps, 1, before)
    first, said = before.steps if before else 0, []
    for step, now[0] in enumerate(times, start=first):
        run.step(1, step, lambda step=step: StepTotals(loss=1.0, top1=0.5, rows=(step + 1) * rows_per_step))
        task = run._bar.tasks[0]
        said.append((task.completed, task.description.rpartition("%")[2].strip(), task.fields["left"]))
    return said


def test_rate_and_time_left_are_said_once_two_steps_past_the_warm_up_are_timed(monkeypatch):
    """The first step compiles for half a minute; the others take two seconds each."""
    said = pace(monkeypatch, [30.0, 40.0, 42.0, 44.0, 46.0])
    assert [left for _, _, left in said] == ["", "", "", "12 s left", "10 s left"]
    assert ["rows/s" in rate for _, rate, _ in said] == [False, False, False, True, True]
    assert said[-1][1] == "80 rows/s"


def test_a_run_that_goes_on_within_an_epoch_counts_from_there(monkeypatch):
    before = EpochSoFar(steps=2, rows=320, loss=2.0, hits=100)
    said = pace(monkeypatch, [30.0, 40.0, 42.0, 44.0], before)
    assert said[-1] == (6, "80 rows/s", "8 s left")


def test_the_bar_ends_full(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(progress.time, "perf_counter", lambda: now[0])
    run = RunProgress(Console(file=io.StringIO(), force_terminal=True, width=150), 2, 5)
    for epoch in (1, 2):
        for step in range(5):
            now[0] += 0.1
            run.step(epoch, step, lambda: StepTotals(loss=1.0, top1=0.5, rows=1))
        run.epoch(Epoch(epoch=epoch, train_loss=1.0, rows_per_second=1.0))
        assert run._bar.tasks[0].completed == 5 * epoch
    assert run._bar.finished and run._bar.tasks[0].fields["left"] == "0 s left"
