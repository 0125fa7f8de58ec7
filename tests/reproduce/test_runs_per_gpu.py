"""Several runs on one GPU: who starts where and when, by children that pretend and GPUs that only say what is free."""

import dataclasses
import json
from types import SimpleNamespace

import pytest
from runs_lab import planned

from mixmo_fast.errors import DeviceError
from mixmo_fast.reproduce import cluster, local, sharing
from mixmo_fast.reproduce.estimate import speeds_of_runs
from mixmo_fast.reproduce.gpu_memory import free_on_gpu
from mixmo_fast.reproduce.jobs import Launch
from mixmo_fast.reproduce.plan import PlannedRun
from mixmo_fast.reproduce.sharing import Places
from mixmo_fast.runfolder.names import SHARED_GPU

GB = 10**9
# A child goes on when as many as stand in a file have come, and its epoch tells nothing of memory.
TOGETHER = """
(folder / "up").touch()
wanted, until = int((folder.parents[2] / "together").read_text()), time.monotonic() + 20
while len(list(folder.parents[1].glob("*/*/up"))) < wanted:
    if time.monotonic() > until: sys.exit(3)
    time.sleep(0.02)
"""


@pytest.fixture
def shared(launch, monkeypatch) -> Launch:
    """Two runs on one GPU, asked for anew at each look."""
    monkeypatch.setattr(sharing, "LOOK_AGAIN", 0.0)
    monkeypatch.setattr(local, "free_on_gpu", lambda _: (None, "no GPU"))
    return dataclasses.replace(launch, device="cuda", workers=2, runs_per_gpu=2)


def end_epoch(run: PlannedRun, launch: Launch, peak: int | None) -> None:
    path = run.folder(launch.out) / "metrics.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        file.write(json.dumps({"epoch": 1} | ({} if peak is None else {"gpu_peak_reserved_bytes": peak})) + "\n")


def test_runs_are_dealt_out_evenly_and_are_on_a_gpu_at_the_same_time(shared, pretend):
    pretend(TOGETHER)
    four = dataclasses.replace(shared, workers=4)
    runs = planned(four, 4)
    (four.out / "together").write_text("4")
    assert {one.status for one in local.run_local(runs, four, lambda _: None)} == {"complete"}
    seen = [json.loads((run.folder(four.out) / "environment.json").read_text()) for run in runs]
    assert [one["CUDA_VISIBLE_DEVICES"] for one in seen] == ["0", "1", "0", "1"]
    assert {(run.folder(four.out) / "tries").read_text() for run in runs} == {"x"}


def test_memory_is_measured_by_an_epoch_and_then_holds_as_many_runs_as_fit(shared):
    launch = dataclasses.replace(shared, workers=4, runs_per_gpu=4)
    runs, told, free = planned(launch, 4), [], [20 * GB]
    places = Places(runs, launch, told.append, lambda _: free[0])

    def start(run: PlannedRun) -> None:
        gpu = places.choose(run)
        assert gpu == 0, told
        places.enter(run, gpu)

    start(runs[0])
    assert places.choose(runs[1]) is None and places.choose(runs[1]) is None
    assert told == [
        "tiny, seed 2: waits: an epoch of tiny, seed 1 is to show first how much memory a run takes on GPU 0"
    ]
    end_epoch(runs[0], launch, 7 * GB)
    free[0] = 13 * GB
    start(runs[1])
    assert places.choose(runs[2]) is None  # the second has taken nothing yet, but will
    assert "waits: it may take 8.1 GB of memory, and GPU 0 has 13.0 GB free, of which runs that have just" in told[-1]
    end_epoch(runs[1], launch, 7 * GB)
    free[0] = 6 * GB
    assert places.choose(runs[2]) is None
    places.leave(runs[0], 0)
    free[0] = 13 * GB
    start(runs[2])
    assert [(run.folder(launch.out) / SHARED_GPU).exists() for run in runs] == [True, True, True, False]


def test_a_configuration_that_was_not_measured_is_guessed_from_those_that_were(shared):
    (small,) = planned(shared, 1)
    larger = small.model_copy(update={"name": "larger", "config": small.config.model_copy(deep=True)})
    larger = larger.model_copy(
        update={
            "config": larger.config.model_copy(update={"batch": larger.config.batch.model_copy(update={"rows": 256})})
        }
    )
    free = [9 * GB]
    places = Places([small, larger], shared, lambda _: None, lambda _: free[0])
    places.enter(small, 0)
    end_epoch(small, shared, 2 * GB)  # four times as many rows may take 8 GB, and CUDA itself some
    assert places.choose(larger) is None
    free[0] = 10 * GB
    assert places.choose(larger) == 0


@pytest.mark.parametrize(("free", "peak"), [(None, 7 * GB), (1, None)])
def test_where_memory_cannot_be_known_runs_start_at_once(shared, free, peak):
    """Because the GPU does not say what is free; or the runs, once they could have, what they take."""
    runs = planned(shared, 2)
    places = Places(runs, shared, lambda _: None, lambda _: free)
    places.enter(runs[0], 0)
    end_epoch(runs[0], shared, peak)
    assert places.choose(runs[1]) == 0


def test_a_machine_without_a_gpu_cannot_say_what_is_free():
    free, complaint = free_on_gpu({"CUDA_VISIBLE_DEVICES": "", "PATH": ""})
    assert free is None and complaint and "\n" not in complaint


def test_a_run_that_fills_the_memory_with_others_gets_a_gpu_for_itself_once(shared, pretend):
    """Then it is a run like any other, whose crashes count."""
    pretend("""
others = [path.parent for path in folder.parents[1].glob("*/tiny/up")]
others = [path for path in others if path != folder and not (path / "summary.json").exists()]
(folder / "up").touch()
if "seed1" in str(folder):
    if number == 2 and others: sys.exit(3)
    if number < 3: print("OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GB"); sys.exit(1)
time.sleep(0.3)
""")
    runs, told = planned(shared, 3), []
    assert {one.status for one in local.run_local(runs, shared, told.append)} == {"complete"}
    assert len((runs[0].folder(shared.out) / "tries").read_text()) == 3
    (alone,) = [line for line in told if "with a GPU for itself" in line]
    assert alone.startswith("tiny, seed 1: OutOfMemoryError: CUDA out of memory")
    assert any("seed 1: exit code 1: OutOfMemoryError" in line and "(1 of 3)" in line for line in told)


def test_memory_that_a_run_had_for_itself_makes_it_crash_like_any_other(shared, pretend):
    pretend("""if number == 1: print("OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GB"); sys.exit(1)""")
    told = []
    assert local.run_local(planned(shared, 1), shared, told.append)[0].status == "complete"
    assert any("(1 of 3)" in line for line in told) and not any("for itself" in line for line in told)


def test_a_run_that_is_to_be_alone_neither_joins_another_nor_is_joined(shared):
    (one, two), told = planned(shared, 2), []
    places = Places([one, two], shared, told.append, lambda _: None)
    places.enter(one, 0)
    assert places.want_alone(two) and not places.want_alone(two)
    assert places.choose(two) is None
    assert places.leave(one, 0) is False
    places.enter(two, 0)
    assert places.choose(one) is None
    assert told == [
        "tiny, seed 2: waits: it gets a GPU for itself, and none is empty",
        "tiny, seed 1: waits: tiny, seed 2, has GPU 0 for itself",
    ]


def test_speeds_of_runs_that_shared_a_gpu_are_no_ones(shared):
    runs = planned(shared, 2)
    for run in runs:
        end_epoch(run, shared, None)
        summary = {"epochs": 1, "rows_per_second": 100.0, "device": "ada"}
        (run.folder(shared.out) / "summary.json").write_text(json.dumps(summary))
    assert len(speeds_of_runs(runs, shared.out)) == 2
    places = Places(runs, shared, lambda _: None, lambda _: None)
    for run in runs:
        places.enter(run, 0)
    assert speeds_of_runs(runs, shared.out) == ()


def test_a_task_of_ray_asks_for_its_share_of_a_gpu(shared):
    ray = SimpleNamespace(cluster_resources=lambda: {"GPU": 2.0})
    assert cluster._resources(ray, shared) == {"num_gpus": 0.5, "num_cpus": 1}
    assert cluster._resources(ray, dataclasses.replace(shared, runs_per_gpu=1)) == {"num_gpus": 1, "num_cpus": 1}
    none = SimpleNamespace(cluster_resources=dict)
    with pytest.raises(DeviceError, match="--runs-per-gpu: found 2, allowed: 1, since no machine of the Ray cluster"):
        cluster._resources(none, dataclasses.replace(shared, device="auto"))
