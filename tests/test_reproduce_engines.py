"""Runs survive whatever happens to their workers: each ends once, with what an undisturbed run gives, and no process
is left behind.

Children that only pretend to train show what the local engine does with each way to end; real ones are killed at
random, under both engines.
"""

import fcntl
import io
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from errno import ENOLCK
from pathlib import Path

import pytest
import torch
from lab import ROOT, repeatable
from rich.console import Console

from mixmo_fast.errors import DeviceError, MixmoError
from mixmo_fast.reproduce import backlog, cluster, jobs, local
from mixmo_fast.reproduce.jobs import Launch, Outcome, is_complete
from mixmo_fast.reproduce.plan import FAILED, LOG, PlannedRun, plan_reproduction, read_plan, write_plan
from mixmo_fast.reproduce_command import ReproduceOptions, reproduce
from mixmo_fast.train_command import TrainOptions, train_run
from mixmo_fast.training.lock import RunHeldError, hold, lock_owner
from mixmo_fast.training.runlog import read_history

TINY = """
data: {dataset: digits, holdout: 0.8}
network: {kind: wide_resnet, depth: 10, width: 1, members: 2}
mixing: {method: linear}
batch: {rows: 64, repetitions: 1}
optimizer: {lr: 0.05, weight_decay: 0.0006}
schedule: {epochs: 1, warmup_steps: 2}
step: {precision: fp32}
"""


@pytest.fixture
def launch(tmp_path, digits) -> Launch:
    return Launch(tmp_path / "out", digits, "cpu", 2, pause=0.05)


def planned(launch: Launch, seeds: int, text: str = TINY) -> tuple[PlannedRun, ...]:
    """A plan of tiny runs, written as `reproduce` does."""
    path = launch.out.parent / "tiny.yaml"
    path.write_text(text)
    plan = plan_reproduction([str(path)], range(1, seeds + 1))
    write_plan(plan, launch.out)
    return plan.runs


def undisturbed(run: PlannedRun, launch: Launch, folder: Path) -> list[dict]:
    """The metrics of the same run, trained here in one go; with one thread, as the engines' workers in these tests."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        options = TrainOptions(run.config_path(launch.out), launch.data, folder, device="cpu", report=False)
        return repeatable(read_history(train_run(options, Console(file=io.StringIO()))))
    finally:
        torch.set_num_threads(threads)


def processes_with(text: str) -> set[str]:
    """All processes of this machine, zombies left out, whose command line holds a text."""
    found = set()
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue
        if text in command and state != "Z" and entry.name != str(os.getpid()):
            found.add(f"{entry.name}: {command}")
    return found


def gone(text: str, seconds: float = 20.0, besides: set[str] = frozenset()) -> bool:
    """Whether there is soon no such process any more, besides those of somebody else."""
    until = time.monotonic() + seconds
    while processes_with(text) - besides:
        if time.monotonic() > until:
            return False
        time.sleep(0.1)
    return True


# ---------------------------------------------------------------------------------------------------------- the lock


def test_a_lock_says_who_has_it_and_only_while_they_do(tmp_path):
    folder = tmp_path / "run"
    assert lock_owner(folder) is None
    assert not list(tmp_path.iterdir())  # looking makes nothing
    with hold(folder):
        owner = lock_owner(folder)
        assert owner.startswith(f"process {os.getpid()} on {os.uname().nodename} (") and "since 20" in owner
        with (
            pytest.raises(RunHeldError, match=r"run: process \d+ on .* is training this run; wait for it"),
            hold(folder),
        ):
            pass
    assert lock_owner(folder) is None


def test_a_killed_owner_leaves_no_lock(tmp_path):
    code = (
        "import sys, time; from pathlib import Path; from mixmo_fast.training.lock import hold\n"
        "with hold(Path(sys.argv[1])): print('mine', flush=True); time.sleep(60)"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "run")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdout.readline() == "mine\n"
        assert f"process {process.pid} on" in lock_owner(tmp_path / "run")
        process.kill()
    assert lock_owner(tmp_path / "run") is None
    with hold(tmp_path / "run"):
        pass


def test_looking_never_keeps_anybody_from_training(tmp_path):
    over = threading.Event()

    def look():
        while not over.is_set():
            lock_owner(tmp_path / "run")

    watchers = [threading.Thread(target=look) for _ in range(4)]
    for watcher in watchers:
        watcher.start()
    try:
        for _ in range(30):
            with hold(tmp_path / "run"):
                pass
    finally:
        over.set()
        for watcher in watchers:
            watcher.join()


def test_a_file_system_without_locks_is_refused(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(MixmoError, match="this file system has no locks") as refused, hold(tmp_path / "run"):
        pass
    assert not isinstance(refused.value, RunHeldError)
    assert lock_owner(tmp_path / "run") is None


# ------------------------------------------------------------------------------------- the local engine, and pretence

PRETENDER = """
import json, os, signal, sys, time
from pathlib import Path
config, folder = Path(sys.argv[1]), Path(sys.argv[2])
tries = folder / "tries"
tries.open("a").write("x")
number = len(tries.read_text())
(folder / "environment.json").write_text(json.dumps(dict(os.environ)))
%s
(folder / "config.yaml").write_text(config.read_text())
(folder / "metrics.jsonl").write_text("{}\\n")
(folder / "summary.json").write_text(json.dumps({"epochs": 1}))
"""


@pytest.fixture
def pretend(monkeypatch, tmp_path):
    """Makes the local engine's children run a script instead of a training; `number` is that of the attempt."""

    def install(body: str) -> None:
        script = tmp_path / "pretender.py"
        script.write_text(PRETENDER % body)
        monkeypatch.setattr(
            local, "arguments_of", lambda config, folder, *_: [sys.executable, str(script), str(config), str(folder)]
        )

    return install


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
    release = threading.Thread(target=lambda: (done.wait(20), lock.__exit__(None, None, None)))
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
        until = time.monotonic() + 30
        while not all((run.folder(launch.out) / "up").exists() for run in runs) and time.monotonic() < until:
            time.sleep(0.05)
        os.kill(os.getpid(), number)

    before = signal.getsignal(signal.SIGTERM)
    threading.Thread(target=interrupt).start()
    with pytest.raises(KeyboardInterrupt):
        local.run_local(runs, launch, lambda _: None)
    assert gone(str(launch.out), 5)
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_killed_child_s_own_children_go_too(launch, pretend):
    pretend(LINGERING + "if number == 1: os.kill(os.getpid(), signal.SIGKILL)")
    local.run_local(planned(launch, 2), launch, lambda _: None)
    assert gone("grandchild of " + str(launch.out), 5)


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
    monkeypatch.setattr("mixmo_fast.train_command.load_config", lambda *_, **__: 1 / 0)
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


def options_of(launch: Launch, **changes) -> ReproduceOptions:
    settings = {"targets": [str(launch.out.parent / "tiny.yaml")], "out": launch.out, "data": launch.data}
    return ReproduceOptions(**settings | {"seeds": "2", "device": "cpu", "workers": 2} | changes)


@pytest.mark.slow
def test_one_command_trains_all_and_the_same_command_goes_on(launch, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    planned(launch, 1)
    broken = launch.out.parent / "broken.yaml"
    broken.write_text(TINY.replace("digits", "tinyimagenet").replace("holdout: 0.8", "holdout: 0.0"))
    targets = [str(launch.out.parent / "tiny.yaml"), str(broken)]
    printed = io.StringIO()
    console = Console(file=printed, width=250)
    assert reproduce(options_of(launch, targets=targets), console) == 1
    told = printed.getvalue()
    assert "2 of 4 runs not complete" in told and told.count("failed") >= 2
    plan = read_plan(launch.out)
    states = {run.key: is_complete(run, launch.out) for run in plan.runs}
    assert states == {("tiny", 1): True, ("tiny", 2): True, ("broken", 1): False, ("broken", 2): False}
    for run in plan.runs[:2]:
        history = repeatable(read_history(run.folder(launch.out)))
        assert history == undisturbed(run, launch, launch.out.parent / f"alone{run.seed}")
    for run in plan.runs[2:]:
        assert "tinyimagenet" in (run.folder(launch.out) / FAILED).read_text()
    assert (launch.out / "report.html").is_file()
    times = {path: path.stat().st_mtime_ns for path in plan.runs[0].folder(launch.out).rglob("*.pt")}
    assert reproduce(options_of(launch), console) == 0  # what was asked for is complete, whatever else is there
    assert "2 runs, 2 complete already" in printed.getvalue()
    assert times == {path: path.stat().st_mtime_ns for path in plan.runs[0].folder(launch.out).rglob("*.pt")}


@pytest.mark.slow
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
        reproduce(options_of(launch, device="auto", workers=None, gpus=2), Console(file=io.StringIO()))


def test_without_ray_the_extra_is_named(launch, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MixmoError, match=r"--engine ray: .*mixmo-fast\[cluster\]"):
        cluster.run_on_ray(planned(launch, 1), launch, lambda _: None)


# ----------------------------------------------------------------------------------------------------------- faults

# What a driver runs. Each worker marks where it begins and ends, and whether the last one that began is still alive.
MARKS = """
import os, sys
from pathlib import Path

def marked(train):
    def wrapped(config, launch, run_folder):
        marks = Path(str(run_folder) + ".marks")
        marks.parent.mkdir(parents=True, exist_ok=True)
        lines = marks.read_text().splitlines() if marks.exists() else []
        if lines and lines[-1].startswith("begin"):
            before = int(lines[-1].split()[1])
            stat = Path(f"/proc/{before}/stat")
            try:
                alive = before != os.getpid() and stat.read_text().rpartition(")")[2].split()[0] != "Z"
            except OSError:
                alive = False
            if alive:
                marks.open("a").write(f"overlap {os.getpid()}\\n")
        with marks.open("a") as file: file.write(f"begin {os.getpid()}\\n")
        ended, line = train(config, launch, run_folder)
        with marks.open("a") as file: file.write(f"end {os.getpid()} {None if ended is None else ended.name}\\n")
        return ended, line
    return wrapped
"""
CHILD = """
import sys
from marks import marked
from mixmo_fast.reproduce import child, jobs
jobs.train_one = marked(jobs.train_one)
sys.exit(child.main())
"""
DRIVER = """
import sys
from pathlib import Path
sys.path.insert(0, str(Path(__file__).parent))
from marks import marked
from mixmo_fast.reproduce import cluster, jobs, local
from mixmo_fast.reproduce.plan import read_plan

def arguments(config, run_folder, *others, of=local.arguments_of):
    words = of(config, run_folder, *others)
    return [words[0], str(Path(__file__).with_name("child_of_test.py")), *words[3:]]

def train(config, launch, run_folder):
    sys.path.insert(0, str(launch.out.parent))
    from marks import marked
    from mixmo_fast.reproduce.jobs import train_one
    return marked(train_one)(config, launch, run_folder)

engine, out, data, workers, retries = sys.argv[1:]
launch = jobs.Launch(Path(out), Path(data), "cpu", int(workers), retries=int(retries), pause=0.1)
runs = read_plan(launch.out).runs
local.arguments_of, cluster._train = arguments, train
run_all = {"local": local.run_local, "ray": cluster.run_on_ray}[engine]
try:
    outcomes = run_all(runs, launch, lambda line: print(line, flush=True))
except KeyboardInterrupt:
    print("interrupted")
    sys.exit(130)
print(*(one.status for one in outcomes))
"""


def drive(engine: str, launch: Launch, retries: int = 50) -> subprocess.Popen:
    """Starts a driver of its own, as a terminal would."""
    folder = launch.out.parent
    for name, text in (("marks.py", MARKS), ("child_of_test.py", CHILD), ("driver.py", DRIVER)):
        (folder / name).write_text(text)
    command = [sys.executable, str(folder / "driver.py"), engine, str(launch.out), str(launch.data), "4", str(retries)]
    path = os.pathsep.join([str(ROOT), str(folder)])
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": path}
    environment.pop("RAY_ADDRESS", None)
    with (folder / "told.txt").open("w") as told:
        return subprocess.Popen(command, cwd=folder, env=environment, stdout=told, stderr=subprocess.STDOUT)


def workers_of(launch: Launch, engine: str) -> list[int]:
    """The processes that train, by what the system calls them."""
    found = processes_with("ray::tiny" if engine == "ray" else "child_of_test.py")
    return [int(line.split(":")[0]) for line in found if engine == "ray" or str(launch.out) in line]


def check_marks(run: PlannedRun, launch: Launch) -> int:
    """How often a run was begun; that it ended once, complete, and was nowhere twice at the same time."""
    lines = Path(f"{run.folder(launch.out)}.marks").read_text().splitlines()
    assert not any(line.startswith("overlap") for line in lines), lines
    ends = [line.split()[2] for line in lines if line.startswith("end")]
    assert ends == ["COMPLETE"] and lines[-1].startswith("end"), lines
    return sum(line.startswith("begin") for line in lines)


def under_fire(engine: str, launch: Launch, count: int, kills: int) -> None:
    """Trains `count` runs while workers are killed at random, and looks at all that came of it."""
    rng = random.Random(count)
    runs = planned(launch, count)
    killed = 0
    with drive(engine, launch) as driver:
        while driver.poll() is None:
            time.sleep(rng.uniform(0.3, 1.2))
            victims = workers_of(launch, engine)
            if killed < kills and victims:
                try:
                    os.kill(rng.choice(victims), signal.SIGKILL)
                except ProcessLookupError:
                    continue
                killed += 1
    told = (launch.out.parent / "told.txt").read_text()
    assert driver.returncode == 0, told
    assert "raylet" not in told
    assert told.splitlines()[-1].split() == ["complete"] * count, told
    assert killed == kills
    attempts = [check_marks(run, launch) for run in runs]
    assert sum(attempts) > count  # the kills have hit
    for run in runs:
        assert is_complete(run, launch.out)
        history = repeatable(read_history(run.folder(launch.out)))
        assert history == undisturbed(run, launch, launch.out.parent / "alone" / str(run.seed))
    assert gone(str(launch.out.parent))


@pytest.mark.slow
def test_local_runs_under_fire_all_end_once_with_the_right_result(launch):
    under_fire("local", launch, count=8, kills=4)


@pytest.mark.slow
@pytest.mark.ray
def test_forty_ray_runs_under_fire_all_end_once_with_the_right_result(launch):
    pytest.importorskip("ray")
    others = processes_with("raylet")
    under_fire("ray", launch, count=40, kills=6)
    assert gone("ray::tiny") and gone("raylet", besides=others)


ENDLESS = TINY.replace("epochs: 1", "epochs: 100000").replace("fp32", "fp32, compile: false")


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["local", pytest.param("ray", marks=pytest.mark.ray)])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_nothing_survives_the_end_of_the_engine(launch, engine, number):
    """Whether it may clean up behind itself or not; and what was trained till then is kept."""
    if engine == "ray":
        pytest.importorskip("ray")
    others = processes_with("raylet")
    (run,) = planned(launch, 1, ENDLESS)
    folder = run.folder(launch.out)
    with drive(engine, launch) as driver:
        until = time.monotonic() + 90
        while jobs.epochs_done(folder) < 2:
            assert driver.poll() is None and time.monotonic() < until, (launch.out.parent / "told.txt").read_text()
            time.sleep(0.1)
        assert lock_owner(folder) is not None
        driver.send_signal(number)
        assert driver.wait(timeout=60) == (130 if number == signal.SIGTERM else -signal.SIGKILL)
    assert gone(str(launch.out.parent)) and gone("ray::tiny") and gone("raylet", besides=others)
    with hold(folder):  # nobody has the lock
        pass
    assert not (folder / FAILED).exists()
    assert (folder / "checkpoints" / "last.pt").is_file()
