"""How far a run is, from files at any moment of their life; the tables of it; and what a watcher says."""

import io
import json
import os
import threading
import time
from contextlib import ExitStack

import pytest
from rich.console import Console
from sample_reproduction import begin, fail, finish, reproduction, row_of, write_history

from mixmo_fast.errors import MixmoError
from mixmo_fast.reproduce.run_state import RunState, read_state, sum_of_seconds_left
from mixmo_fast.reproduce.status import show_status
from mixmo_fast.reproduce.tables import states_table, totals_line
from mixmo_fast.reproduce.watch import SECONDS_BETWEEN_LINES, States, Watch
from mixmo_fast.runfolder.lock import hold
from mixmo_fast.runfolder.names import CONFIG, LOG
from mixmo_fast.tables import print_table


@pytest.fixture
def plan(tmp_path):
    """Eight configurations with two seeds each, six epochs a run."""
    return reproduction(tmp_path, seeds=(1, 2))


@pytest.fixture
def run(plan):
    assert plan.runs[0].epochs == 6
    return plan.runs[0]


def terminal(height: int = 50) -> tuple[Console, io.StringIO]:
    file = io.StringIO()
    return Console(file=file, width=140, height=height, force_terminal=True, color_system=None), file


def log() -> tuple[Console, io.StringIO]:
    file = io.StringIO()
    return Console(file=file, width=200), file


def test_a_run_without_a_folder_waits_and_nothing_is_made_of_it(tmp_path, run):
    state = read_state(run.folder(tmp_path), run)
    assert (state.status, state.epoch, state.epochs, state.seconds_left) == ("waiting", 0, 6, None)
    assert (state.name, state.seed, state.loss, state.last_top1) == (run.name, 1, None, None)
    assert not (tmp_path / "runs").exists()


def test_numbers_of_a_stopped_run_are_counted_by_hand(tmp_path, run):
    rows = [
        row_of(1, 0.30, seconds=90.0, rows_per_second=100.0, train_loss=3.0),
        row_of(2, 0.70, seconds=30.0, rows_per_second=300.0, train_loss=2.0),
        row_of(3, 0.60, seconds=40.0, rows_per_second=200.0, train_loss=1.0),
    ]
    begin(run.folder(tmp_path), run.config, rows)
    state = read_state(run.folder(tmp_path), run)
    assert (state.status, state.epoch, state.loss) == ("stopped", 3, 1.0)
    assert (state.last_top1, state.best_top1, state.rows_per_second) == (0.60, 0.70, 200.0)
    assert state.train_seconds == 160.0
    assert state.seconds_per_epoch == 44.0  # the median of 90, 30, 40, and 4 s of evaluation
    assert state.seconds_left == 3 * 44.0


def test_epochs_that_were_not_evaluated_leave_the_accuracies_of_those_before(tmp_path, run):
    untested = {"epoch": 2, "train_loss": 1.5, "train_seconds": 36.0, "rows_per_second": 1000.0}
    write_history(run.folder(tmp_path), [row_of(1, 0.5), untested])
    state = read_state(run.folder(tmp_path), run)
    assert (state.epoch, state.loss, state.last_top1, state.best_top1) == (2, 1.5, 0.5, 0.5)
    assert state.seconds_per_epoch == 38.0  # one evaluation of 4 s in two epochs


@pytest.mark.parametrize("kept", [1, 20, -1])
def test_a_line_that_is_being_written_is_not_there_yet(tmp_path, run, kept):
    folder = run.folder(tmp_path)
    write_history(folder, [row_of(1, 0.5)])
    half = (json.dumps(row_of(2, 0.9)) + "\n")[:kept]
    with (folder / "metrics.jsonl").open("a") as file:
        file.write(half)
    state = read_state(folder, run)
    assert (state.status, state.epoch, state.best_top1, state.error) == ("stopped", 1, 0.5, None)


def test_half_a_letter_at_the_end_is_no_damage(tmp_path, run):
    folder = run.folder(tmp_path)
    write_history(folder, [row_of(1, 0.5)])
    with (folder / "metrics.jsonl").open("ab") as file:
        file.write(b'{"name": "\xc3')
    assert read_state(folder, run).epoch == 1


@pytest.mark.parametrize(("file", "content"), [("metrics.jsonl", "{\n{}\n"), ("summary.json", '{"epochs": "many"}')])
def test_a_damaged_file_makes_a_failed_run_whose_error_names_it(tmp_path, run, file, content):
    folder = run.folder(tmp_path)
    begin(folder, run.config, [row_of(1, 0.5)])
    (folder / file).write_text(content)
    state = read_state(folder, run)
    assert state.status == "failed" and state.seconds_left is None
    assert state.error.startswith(f"{folder / file}: ") and "\n" not in state.error


def test_a_run_is_running_exactly_while_its_lock_is_held(tmp_path, run):
    folder = run.folder(tmp_path)
    with hold(folder):
        state = read_state(folder, run)
        assert state.status == "running" and f"process {os.getpid()}" in state.owner
    begin(folder, run.config, [row_of(1, 0.5)])
    with hold(folder):
        assert read_state(folder, run).status == "running"
    assert read_state(folder, run).status == "stopped"


def test_a_run_whose_process_has_only_opened_its_log_waits(tmp_path, run):
    folder = run.folder(tmp_path)
    folder.mkdir(parents=True)
    (folder / LOG).touch()
    assert read_state(folder, run).status == "waiting"
    (folder / CONFIG).touch()
    assert read_state(folder, run).status == "stopped"


def test_a_run_is_complete_with_its_summary_and_not_before(tmp_path, run):
    folder = run.folder(tmp_path)
    rows = [row_of(epoch, 0.1 * epoch) for epoch in range(1, 7)]
    begin(folder, run.config, rows)
    assert read_state(folder, run).status == "stopped"
    finish(folder, run.config, rows)
    state = read_state(folder, run)
    assert (state.status, state.epoch, state.seconds_left) == ("complete", 6, 0.0)
    with hold(folder):  # whoever looks whether there is something to do
        assert read_state(folder, run).status == "complete"


def test_the_summary_of_a_shorter_run_does_not_complete_a_longer_one(tmp_path, run):
    folder = run.folder(tmp_path)
    finish(folder, run.config, [row_of(epoch, 0.5) for epoch in range(1, 6)])
    assert read_state(folder, run).status == "stopped"


def test_a_failure_counts_until_the_run_is_started_again_or_has_ended_after_it(tmp_path, run):
    folder = run.folder(tmp_path)
    fail(folder, "digits: not converted")
    state = read_state(folder, run)
    assert (state.status, state.error, state.epoch) == ("failed", "digits: not converted", 0)
    with hold(folder):
        assert read_state(folder, run).status == "running"
    finish(folder, run.config, [row_of(epoch, 0.5) for epoch in range(1, 7)])
    note, summary = folder / "failed.txt", folder / "summary.json"
    os.utime(note, ns=(10**18, 10**18))
    os.utime(summary, ns=(2 * 10**18, 2 * 10**18))
    assert read_state(folder, run).status == "complete"
    os.utime(note, ns=(3 * 10**18, 3 * 10**18))  # refused after its end: it holds other settings
    assert read_state(folder, run).status == "failed"


def test_reading_while_another_thread_writes_never_sees_anything_but_whole_epochs(tmp_path, run):
    folder = run.folder(tmp_path)
    write_history(folder, [])
    over = threading.Event()

    def write():
        with (folder / "metrics.jsonl").open("a", buffering=1) as file:
            for epoch in range(1, 200):
                text = json.dumps(row_of(epoch, 0.5)) + "\n"
                file.write(text[:37])
                file.flush()
                file.write(text[37:])
                file.flush()
        over.set()

    writer = threading.Thread(target=write)
    writer.start()
    seen = []
    while not over.is_set():
        seen.append(read_state(folder, run))
    writer.join()
    seen.append(read_state(folder, run))
    assert {state.error for state in seen} == {None}
    epochs = [state.epoch for state in seen]
    assert epochs == sorted(epochs) and epochs[-1] == 199


# Sums


def state_of(name: str, status: str, epoch: int = 0, pace: float | None = None, seed: int = 1) -> RunState:
    return RunState(name, seed, status, epoch, 10, seconds_per_epoch=pace)


def test_the_time_left_is_a_sum_over_runs_of_their_own_their_siblings_or_others_pace():
    states = [
        state_of("a", "running", 4, 5.0),  # 6 x 5 s
        state_of("a", "waiting", 0, None, seed=2),  # 10 x 5 s, as its sibling
        state_of("b", "complete", 10, 8.0),
        state_of("c", "waiting"),  # by work: a takes 50 s for 10 FLOP, b 80 s for 20: 4.5 s a FLOP, and it has 40
        state_of("d", "failed", 1, 100.0),
    ]
    work = {("a", 1): 10.0, ("b", 1): 20.0, ("c", 1): 40.0}
    assert sum_of_seconds_left(states, work) == (30 + 50 + 180, 0)
    assert sum_of_seconds_left(states, {}) == (30 + 50, 1)
    assert sum_of_seconds_left([state_of("c", "waiting")], work) == (0, 1)


def test_the_totals_say_what_is_there_and_what_is_not_known():
    states = [state_of("a", "complete", 10, 5.0), state_of("b", "running", 5, 60.0), state_of("c", "waiting")]
    line = totals_line(states, {})
    assert line.startswith("1 of 3 complete, 1 running, 1 waiting; about 5 min 00 s left for one worker")
    assert line.endswith("for one worker, and 1 run nothing like which was measured")
    assert totals_line(states[:1], {}) == "1 of 1 complete"
    assert "no time known yet for 1 run" in totals_line(states[2:], {})


def test_a_low_window_shows_what_goes_on_and_counts_the_rest():
    states = [state_of(f"run{number}", "complete") for number in range(30)]
    states[20] = state_of("run20", "running")
    states[25] = state_of("run25", "failed")
    console, file = log()
    print_table(console, states_table(states, 5))
    text = file.getvalue()
    assert "run20" in text and "run25" in text and "and 26 others" in text


# The commands


def test_status_shows_every_planned_run_its_numbers_and_its_error(tmp_path, plan):
    first, second, third = plan.runs[:3]
    finish(first.folder(tmp_path), first.config, [row_of(epoch, 0.9) for epoch in range(1, 7)])
    begin(second.folder(tmp_path), second.config, [row_of(1, 0.1234, rows_per_second=4321.0)])
    fail(third.folder(tmp_path), "it [diverged]")
    console, file = log()
    states = show_status(tmp_path, console)
    text = file.getvalue()
    assert [state.status for state in states] == ["complete", "stopped", "failed"] + ["waiting"] * 13
    line = next(line for line in text.splitlines() if "stopped" in line)
    for part in (second.name, "1/6", "2.000", "12.34 %", "4,321", "3 min 20 s"):
        assert part in line
    assert f"{third.name}, seed {third.seed}: it [diverged]" in text
    assert "1 of 16 complete, 1 stopped, 13 waiting, 1 failed" in text


def test_status_of_run_folders_that_nobody_planned(trained):
    console, file = log()
    (state,) = show_status(trained.folder, console)
    assert (state.name, state.status, state.epoch) == ("tiny", "complete", 4)
    assert "1 of 1 complete" in file.getvalue()


def test_status_of_nothing_is_one_line(tmp_path):
    console, _ = log()
    with pytest.raises(MixmoError, match="no such folder"):
        show_status(tmp_path / "nowhere", console)
    with pytest.raises(MixmoError, match="no runs in it") as error:
        show_status(tmp_path, console)
    assert "\n" not in str(error.value)


def test_watching_ends_by_itself_when_all_runs_have(tmp_path, plan, monkeypatch):
    for run in plan.runs[1:]:
        fail(run.folder(tmp_path), "no")
    monkeypatch.setattr("mixmo_fast.reproduce.status.SECONDS_BETWEEN_LOOKS", 0.05)
    run = plan.runs[0]
    later = threading.Timer(
        0.3, finish, (run.folder(tmp_path), run.config, [row_of(epoch, 0.9) for epoch in range(1, 7)])
    )
    later.start()
    console, _ = terminal()
    states = show_status(tmp_path, console, watch=True)
    later.join()
    assert states[0].status == "complete"


def wait_for(condition) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_on_a_terminal_the_table_follows_the_folders(tmp_path, plan):
    run = plan.runs[0]
    console, file = terminal(height=14)
    with Watch(console, plan, tmp_path, seconds=0.02), hold(run.folder(tmp_path)):
        wait_for(lambda: "running" in file.getvalue())
        write_history(run.folder(tmp_path), [row_of(1, 0.5)])
        wait_for(lambda: "1/6" in file.getvalue())
    assert "0 of 16 complete, 1 running, 15 waiting" in file.getvalue()


def test_a_log_gets_a_line_of_what_runs_what_is_done_and_the_time_left(tmp_path, plan):
    first, *others = plan.runs
    finish(first.folder(tmp_path), first.config, [row_of(epoch, 0.5, seconds=30.0) for epoch in range(1, 7)])
    console, file = log()
    with ExitStack() as held:
        for run in others[:5]:
            write_history(run.folder(tmp_path), [row_of(1, 0.5, seconds=30.0)])
            held.enter_context(hold(run.folder(tmp_path)))
        with Watch(console, plan, tmp_path, workers=5, seconds=0.02):
            wait_for(lambda: file.getvalue().count("\n") > 1)
    line = file.getvalue().splitlines()[0]
    assert line.startswith("1 of 16 complete, 5 running, 10 waiting; about ") and "left for 5 workers" in line
    assert line.count(": epoch 1/6") == 4 and f"; running: {others[0].name}, seed " in line
    assert line.endswith("; and 1 others") and "\x1b" not in line


def test_without_a_terminal_the_lines_are_a_minute_apart(tmp_path, plan):
    assert SECONDS_BETWEEN_LINES == 60
    console, file = log()
    with Watch(console, plan, tmp_path):
        pass
    assert file.getvalue() == ""


def test_a_complete_run_is_read_once(tmp_path, plan):
    run = plan.runs[0]
    finish(run.folder(tmp_path), run.config, [row_of(epoch, 0.5) for epoch in range(1, 7)])
    states = States([(one.folder(tmp_path), one) for one in plan.runs])
    first = states.read()[0]
    (run.folder(tmp_path) / "metrics.jsonl").unlink()
    assert states.read()[0] is first
    assert states.work[run.key] == float(run.flop) > 0
