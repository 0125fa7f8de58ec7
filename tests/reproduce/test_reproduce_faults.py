"""Runs survive whatever happens to their workers: each ends once, with what an undisturbed run gives, and no process
is left behind.
"""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from lab import ROOT, read_history, repeatable
from runs_lab import TINY, gone, planned, processes_with, undisturbed

from mixmo_fast.reproduce import jobs
from mixmo_fast.reproduce.jobs import Launch, is_complete
from mixmo_fast.reproduce.plan import PlannedRun
from mixmo_fast.runfolder.lock import hold, lock_owner
from mixmo_fast.runfolder.names import FAILED

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


def is_training(pid: int, runs: tuple[PlannedRun, ...], launch: Launch) -> bool:
    """Whether a process has begun a run and not ended it."""
    marks = (Path(f"{run.folder(launch.out)}.marks") for run in runs)
    return any(path.exists() and path.read_text().endswith(f"begin {pid}\n") for path in marks)


def under_fire(engine: str, launch: Launch, count: int, kills: int) -> None:
    """Trains `count` runs while workers are killed at random, and looks at all that came of it."""
    rng = random.Random(count)
    runs = planned(launch, count)
    killed, hits = 0, 0
    with drive(engine, launch) as driver:
        while driver.poll() is None:
            time.sleep(rng.uniform(0.3, 1.2))
            # Every other one while it trains: most of a short worker's life is spent before that.
            victims = workers_of(launch, engine)
            victims = [pid for pid in victims if is_training(pid, runs, launch)] if killed % 2 == 0 else victims
            if (killed < kills or not hits) and victims:
                victim = rng.choice(victims)
                try:
                    os.kill(victim, signal.SIGKILL)
                except ProcessLookupError:
                    continue
                killed += 1
                hits += is_training(victim, runs, launch)
    told = (launch.out.parent / "told.txt").read_text()
    assert driver.returncode == 0, told
    assert "raylet" not in told
    assert told.splitlines()[-1].split() == ["complete"] * count, told
    assert killed >= kills and hits
    attempts = [check_marks(run, launch) for run in runs]
    assert sum(attempts) > count
    for run in runs:
        assert is_complete(run, launch.out)
        history = repeatable(read_history(run.folder(launch.out)))
        assert history == undisturbed(run, launch, launch.out.parent / "alone" / str(run.seed))
    assert gone(str(launch.out.parent))


@pytest.mark.campaign
def test_local_runs_under_fire_all_end_once_with_the_right_result(launch):
    under_fire("local", launch, count=5, kills=3)


@pytest.mark.campaign
@pytest.mark.ray
def test_ray_runs_under_fire_all_end_once_with_the_right_result(launch):
    pytest.importorskip("ray")
    others = processes_with("raylet")
    under_fire("ray", launch, count=10, kills=4)
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
    until = time.monotonic() + 60
    while lock_owner(folder) is not None and time.monotonic() < until:
        time.sleep(0.1)  # a worker of Ray's takes off its task's name before it ends
    with hold(folder):  # nobody has the lock
        pass
    assert not (folder / FAILED).exists()
    assert (folder / "checkpoints" / "last.pt").is_file()
