"""What the engines do with each way in which a worker can end, shown by children that only pretend to train; and the
command as a whole.
"""

import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch
from lab import ROOT, read_history, repeatable
from rich.console import Console
from runs_lab import TINY, gone, planned, undisturbed

from mixmo_fast.errors import DeviceError, MixmoError
from mixmo_fast.reproduce import backlog, cluster, jobs, local
from mixmo_fast.reproduce.command import reproduce
from mixmo_fast.reproduce.jobs import Launch, Outcome, is_complete
from mixmo_fast.reproduce.plan import PlannedRun, plan_reproduction, read_plan
from mixmo_fast.runfolder.lock import hold
from mixmo_fast.runfolder.names import FAILED, LOG


def tries(run: PlannedRun, launch: Launch) -> int:
    path = run.folder(launch.out) / "tries"
    return len(path.read_text()) if path.exists() else 0


def test_runs_that_crash_are_tried_again(launch, pretend):
    pretend("""
if number == 1: os.kill(os.getpid(), signal.SIGKILL)
if number == 2: print("Traceback ...", "RuntimeError: a bad day", sep="\\n"); sys.exit(1)
""")
    runs, told = planned(launch, 5), []
    assert local.run_local(runs, launch, told.append) == tuple(Outcome("tiny", run.seed, "complete") for run in runs)
    assert [tries(run, launch) for run in runs] == [3] * 5
    assert sum("killed by SIGKILL; again in 0.05 s (1 of 3)" in line for line in told) == 5
    assert sum("exit code 1: RuntimeError: a bad day; again in 0.1 s (2 of 3)" in line for line in told) == 5
    assert local.run_local(runs, launch, told.append)[0].status == "complete"
    assert [tries(run, launch) for run in runs] == [3] * 5  # complete runs are left alone
    assert told[-1] == "tiny, seed 5: was complete already"


def test_a_run_that_always_crashes_is_given_up_and_the_others_go_on(launch, pretend):
    pretend("if 'seed2' in str(folder): sys.exit(3)")
    runs = planned(launch, 3)
    outcomes = local.run_local(runs, launch, lambda _: None)
    assert [one.status for one in outcomes] == ["complete", "stopped", "complete"]
    assert "exit code 3" in outcomes[1].line and "crashed 4 times in epoch 1" in outcomes[1].line
    assert tries(runs[1], launch) == 1 + launch.retries
    assert not (runs[1].folder(launch.out) / FAILED).exists()  # the next reproduction tries it again


def test_only_crashes_without_progress_count(launch, pretend):
    """A run that gets an epoch further each time may crash as often as it has epochs."""
    pretend("""
with (folder / "metrics.jsonl").open("a") as file: file.write("{}\\n")
if number < 9: os.kill(os.getpid(), signal.SIGKILL)
""")
    (run,) = planned(launch, 1)
    assert local.run_local([run], launch, lambda _: None)[0].status == "complete"
    assert tries(run, launch) == 9


def test_what_a_person_has_to_mend_is_noted_and_not_tried_again(launch, pretend):
    pretend("""
if 'seed1' in str(folder) and not Path(str(folder) + ".mended").exists():
    print("mixmo-fast: data: is missing"); sys.exit(2)
""")
    runs, told = planned(launch, 2), []
    outcomes = local.run_local(runs, launch, told.append)
    assert outcomes[0] == Outcome("tiny", 1, "failed", "data: is missing")
    assert outcomes[1].status == "complete"
    note = runs[0].folder(launch.out) / FAILED
    assert note.read_text() == "data: is missing\n"
    assert tries(runs[0], launch) == 1
    Path(f"{runs[0].folder(launch.out)}.mended").touch()
    assert [one.status for one in local.run_local(runs, launch, told.append)] == ["complete", "complete"]
    assert not note.exists()


def test_a_run_that_another_process_trains_is_waited_for(launch, pretend, monkeypatch):
    monkeypatch.setattr(backlog, "LOOK_AGAIN", 0.1)
    pretend("")
    runs, told = planned(launch, 3), []
    done = threading.Event()

    def tell(line: str) -> None:
        told.append(line)
        if sum("complete" in line for line in told) == 2:
            done.set()

    lock = hold(runs[1].folder(launch.out))
    lock.__enter__()  # the engine needs the main thread, so it is given back from another one
    release = threading.Thread(target=lambda: (done.wait(60), lock.__exit__(None, None, None)))
    release.start()
    outcomes = local.run_local(runs, launch, tell)
    release.join()
    assert [one.status for one in outcomes] == ["complete"] * 3
    assert [tries(run, launch) for run in runs] == [1, 1, 1]
    assert sum("waiting, process" in line for line in told) == 1  # said once, however often it is looked
    assert told[-1] == "tiny, seed 2: complete"


def test_a_child_that_finds_its_run_taken_is_no_failure(launch, pretend, monkeypatch):
    monkeypatch.setattr(backlog, "LOOK_AGAIN", 0.1)
    pretend("if number < 3: sys.exit(75)")
    (run,) = planned(launch, 1)
    assert local.run_local([run], launch, lambda _: None)[0].status == "complete"
    assert tries(run, launch) == 3


def test_each_child_has_its_own_gpu_or_its_share_of_the_cores(launch, pretend, monkeypatch):
    gpus = Launch(launch.out, launch.data, "cuda", 3)
    cores = Launch(launch.out, launch.data, "cpu", 4)
    monkeypatch.setattr(local, "available_cores", lambda: 9)
    assert [local.child_environment({}, slot, gpus) for slot in (0, 2)] == [
        {"CUDA_VISIBLE_DEVICES": "0"},
        {"CUDA_VISIBLE_DEVICES": "2"},
    ]
    some = {"CUDA_VISIBLE_DEVICES": "5, GPU-8f,1"}
    assert local.child_environment(some, 1, gpus)["CUDA_VISIBLE_DEVICES"] == "GPU-8f"
    assert local.child_environment({}, 0, cores) == {"OMP_NUM_THREADS": "2"}
    assert local.child_environment({"OMP_NUM_THREADS": "7"}, 0, cores) == {"OMP_NUM_THREADS": "7"}
    assert local.child_environment({}, 0, Launch(launch.out, launch.data, "cpu", 1)) == {}
    pretend("time.sleep(0.3)")
    runs = planned(launch, 3)
    local.run_local(runs, gpus, lambda _: None)
    seen = [json.loads((run.folder(launch.out) / "environment.json").read_text()) for run in runs]
    assert sorted(one["CUDA_VISIBLE_DEVICES"] for one in seen) == ["0", "1", "2"]


# A child of a child, as a data loader's worker or a compiler's is.
LINGERING = """
import subprocess
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)", "grandchild of " + str(folder)])
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_an_interrupted_engine_ends_its_children_and_theirs(launch, pretend, number):
    pretend(LINGERING + "(folder / 'up').touch(); time.sleep(600)")
    runs = planned(launch, 2)

    def interrupt():
        until = time.monotonic() + 60
        while not all((run.folder(launch.out) / "up").exists() for run in runs) and time.monotonic() < until:
            time.sleep(0.05)
        os.kill(os.getpid(), number)

    before = signal.getsignal(signal.SIGTERM)
    threading.Thread(target=interrupt).start()
    with pytest.raises(KeyboardInterrupt):
        local.run_local(runs, launch, lambda _: None)
    assert gone(str(launch.out))
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_killed_child_s_own_children_go_too(launch, pretend):
    pretend(LINGERING + "if number == 1: os.kill(os.getpid(), signal.SIGKILL)")
    local.run_local(planned(launch, 2), launch, lambda _: None)
    assert gone("grandchild of " + str(launch.out))


# ------------------------------------------------------------------------------------------------ one run, for real


def test_a_worker_tells_what_happened(launch, monkeypatch):
    (run,) = planned(launch, 1)
    folder, path = run.folder(launch.out), run.config_path(launch.out)
    ended, line = jobs.train_one(launch.out / "configs" / "none.yaml", launch, folder)
    assert ended == jobs.Ended.MENDABLE and "does not see this file; all machines must share --out" in line
    with hold(folder):
        ended, line = jobs.train_one(path, launch, folder)
    assert ended == jobs.Ended.HELD and "is training this run" in line
    nowhere = Launch(launch.out, launch.out / "nowhere", "cuda", 1)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    ended, line = jobs.train_one(path, nowhere, folder)
    assert ended == jobs.Ended.MENDABLE and line.startswith("--device cuda: ")
    assert jobs.last_line(folder / LOG) == line
    monkeypatch.setattr("mixmo_fast.run.train.load_config", lambda *_, **__: 1 / 0)
    ended, line = jobs.train_one(path, launch, folder)
    assert ended is None and line == "ZeroDivisionError: division by zero"
    assert "Traceback" in (folder / LOG).read_text()


def test_only_the_finished_run_of_this_plan_is_complete(launch, tmp_path):
    (run,) = planned(launch, 1)
    folder = run.folder(launch.out)
    assert not is_complete(run, launch.out)
    assert jobs.train_one(run.config_path(launch.out), launch, folder) == (jobs.Ended.COMPLETE, "")
    assert is_complete(run, launch.out)
    assert "test top-1" in (folder / LOG).read_text()
    for override in ("schedule.epochs=2", "optimizer.lr=0.1"):
        (other,) = plan_reproduction([str(tmp_path / "tiny.yaml")], [1], 1.0, [override]).runs
        assert other.folder(launch.out) == folder and not is_complete(other, launch.out)
    (faster,) = plan_reproduction([str(tmp_path / "tiny.yaml")], [1], 1.0, ["step.compile=false"]).runs
    assert is_complete(faster, launch.out)
    (folder / "summary.json").write_text('{"epo')
    assert not is_complete(run, launch.out)


# -------------------------------------------------------------------------------------------- the command, for real


def reproduce_tiny(launch: Launch, console: Console, **changes) -> int:
    settings = {"targets": [str(launch.out.parent / "tiny.yaml")], "out": launch.out, "data": launch.data}
    settings |= {"seeds": "2", "device": "cpu", "workers": 2}
    return reproduce(**settings | changes, console=console)


@pytest.mark.slow
def test_one_command_trains_all_and_the_same_command_goes_on(launch, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    planned(launch, 1)
    broken = launch.out.parent / "broken.yaml"
    broken.write_text(TINY.replace("fp32", "fp16"))
    targets = [str(launch.out.parent / "tiny.yaml"), str(broken)]
    printed = io.StringIO()
    console = Console(file=printed, width=250)
    assert reproduce_tiny(launch, console, targets=targets) == 1
    told = printed.getvalue()
    assert "2 of 4 runs not complete" in told and told.count("failed") >= 2
    plan = read_plan(launch.out)
    states = {run.key: is_complete(run, launch.out) for run in plan.runs}
    assert states == {("tiny", 1): True, ("tiny", 2): True, ("broken", 1): False, ("broken", 2): False}
    for run in plan.runs[:2]:
        history = repeatable(read_history(run.folder(launch.out)))
        assert history == undisturbed(run, launch, launch.out.parent / f"alone{run.seed}")
    for run in plan.runs[2:]:
        assert "fp16 needs a CUDA device" in (run.folder(launch.out) / FAILED).read_text()
    assert (launch.out / "report.html").is_file()
    times = {path: path.stat().st_mtime_ns for path in plan.runs[0].folder(launch.out).rglob("*.pt")}
    assert reproduce_tiny(launch, console) == 0  # what was asked for is complete, whatever else is there
    assert "2 runs, 2 complete already" in printed.getvalue()
    assert times == {path: path.stat().st_mtime_ns for path in plan.runs[0].folder(launch.out).rglob("*.pt")}


@pytest.mark.campaign
def test_two_commands_at_the_same_time_share_the_work(launch):
    runs = planned(launch, 3)
    command = [sys.executable, "-m", "mixmo_fast", "reproduce", str(launch.out.parent / "tiny.yaml"), "--seeds", "3"]
    command += ["--out", str(launch.out), "--data", str(launch.data), "--device", "cpu"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    both = [subprocess.Popen(command, cwd=ROOT, env=environment, **pipes) for _ in range(2)]
    told = [process.communicate(timeout=120)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], told
    for run in runs:
        assert is_complete(run, launch.out) and not (run.folder(launch.out) / FAILED).exists()
        # Only one of them has come as far as an epoch.
        assert (run.folder(launch.out) / LOG).read_text().count("epoch 1/1") == 1
    assert any("waiting, " in text for text in told)


def test_devices_that_are_not_there_are_refused(launch, monkeypatch):
    planned(launch, 1)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(DeviceError, match="--gpus 2: torch sees no CUDA device here; use --workers"):
        reproduce_tiny(launch, Console(file=io.StringIO()), device="auto", workers=None, gpus=2)
    with pytest.raises(DeviceError, match="--runs-per-gpu: found 2, allowed: 1, since torch sees no CUDA device here"):
        reproduce_tiny(launch, Console(file=io.StringIO()), device="auto", workers=None, runs_per_gpu="2")


def test_without_ray_the_extra_is_named(launch, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MixmoError, match=r"--engine ray: .*mixmo-fast\[cluster\]"):
        cluster.run_on_ray(planned(launch, 1), launch, lambda _: None)
