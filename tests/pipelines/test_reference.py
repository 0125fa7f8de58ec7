"""The `reference` pipeline: the same batches as `resident`, and workers that end when they should."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import torch
from recipes import small_recipe as recipe
from small_dataset import assert_same_batch

from mixmo_fast.batch import Batch
from mixmo_fast.errors import DataError
from mixmo_fast.mixing.recipe import Recipe
from pipelines import reference as reference_pipeline
from pipelines.assembly.assemble import normalisation_table
from pipelines.reference import ReferenceTraining
from pipelines.resident import ResidentTraining

# On a machine of one core two workers are more than DataLoader finds sensible.
pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create")

MEAN, STD = (0.49, 0.48, 0.45), (0.2023, 0.1994, 0.201)
CPU = torch.device("cpu")
IMAGES = np.random.default_rng(0).integers(0, 256, (60, 12, 16, 3), dtype=np.uint8)
LABELS = np.random.default_rng(1).integers(0, 10, 60)


def reference(a_recipe: Recipe, workers: int = 0, images=IMAGES, labels=LABELS, **options) -> ReferenceTraining:
    options = {"device": CPU, "workers": workers} | options
    return ReferenceTraining(images, labels, MEAN, STD, a_recipe, 5, **options)


def kept(batches) -> list[Batch]:
    """Copies, since a batch is only valid until the next one."""
    return [Batch(*(getattr(batch, field.name).clone() for field in fields(Batch))) for batch in batches]


def fast(a_recipe: Recipe, epoch: int) -> list[Batch]:
    training = ResidentTraining(IMAGES, LABELS, normalisation_table(MEAN, STD), a_recipe, 5, CPU)
    batches = kept(training.epoch(epoch))
    training.close()
    return batches


def assert_equal(found, expected) -> None:
    count = 0
    for one, other in zip(found, expected, strict=True):
        assert_same_batch(one, other, count)
        count += 1
    assert count == 10


def worker_pids(training: ReferenceTraining) -> list[int]:
    return [worker.pid for worker in training._iterator._workers]


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.fixture(scope="module")
def two_workers():
    training = reference(recipe(), workers=2)
    yield training
    training.close()


def test_every_byte_becomes_what_the_table_says():
    ramp = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1).repeat(3, axis=-1)
    size = {"image_size": (16, 16), "map_size": (16, 16)}
    plain = recipe(1, None, images=1, rows=1, repetitions=1, **size, crop_padding=0, flip=False)
    training = reference(plain, images=ramp, labels=LABELS[:1])
    batch = next(training.epoch(1))
    assert torch.equal(batch.images.view(3, 256), torch.from_numpy(normalisation_table(MEAN, STD)))
    training.close()


def test_two_workers_give_the_same_batches_in_the_same_order(two_workers):
    for epoch in (2, 1):
        assert_equal(two_workers.epoch(epoch), fast(recipe(), epoch))


def test_workers_stay_over_epochs_and_abandoned_ones(two_workers):
    assert_equal(two_workers.epoch(1), fast(recipe(), 1))
    before = worker_pids(two_workers)
    for batches in (1, 3):
        abandoned = two_workers.epoch(3)
        for _ in range(batches):
            next(abandoned)
        abandoned.close()
    assert_equal(two_workers.epoch(2), fast(recipe(), 2))
    assert worker_pids(two_workers) == before
    assert len(set(before)) == 2 and os.getpid() not in before


@pytest.mark.parametrize("workers", [0, 2])
def test_an_epoch_ends_when_another_one_begins(workers, two_workers):
    training = two_workers if workers else reference(recipe())
    first = training.epoch(1)
    next(first)
    second = training.epoch(2)
    ahead = kept([next(second)])
    with pytest.raises(RuntimeError, match="epoch 1 was ended"):
        next(first)
    assert_equal([*ahead, *second], fast(recipe(), 2))


def test_low_precision_batches_are_the_rounded_float32_ones():
    training = reference(recipe(), dtype=torch.bfloat16)
    for low, full in zip(training.epoch(1), fast(recipe(), 1), strict=True):
        assert torch.equal(low.images, full.images.bfloat16())
        assert low.images.is_contiguous(memory_format=torch.channels_last)
    training.close()


def test_a_partner_that_is_not_mixed_in_is_not_loaded():
    class Counting:
        loaded = 0

        def __getitem__(self, index):
            self.loaded += 1
            return IMAGES[index]

    a_recipe = recipe(msda="mixup")
    training = reference(a_recipe, images=Counting())
    mixed = sum(int((batch.share < 1).sum()) for batch in training.epoch(1))
    images = 10 * a_recipe.rows * a_recipe.members
    assert training._rows._images.loaded == images + mixed
    assert 0 < mixed < images
    training.close()


def test_torch_own_random_numbers_are_left_alone():
    before = torch.get_rng_state()
    training = reference(recipe())
    next(training.epoch(1))
    training.close()
    assert torch.equal(torch.get_rng_state(), before)


def test_workers_map_a_file_that_the_images_are_mapped_from(tmp_path):
    np.save(tmp_path / "images.npy", IMAGES)
    mapped = np.load(tmp_path / "images.npy", mmap_mode="r")
    training = reference(recipe(), workers=1, images=mapped)
    assert_equal(training.epoch(1), fast(recipe(), 1))
    for pid in worker_pids(training):
        assert "images.npy" in Path(f"/proc/{pid}/maps").read_text()
    training.close()


def test_a_part_of_a_mapped_file_is_not_taken_for_its_beginning(tmp_path):
    np.save(tmp_path / "images.npy", np.concatenate((IMAGES[::-1], IMAGES)))
    part = np.load(tmp_path / "images.npy", mmap_mode="r")[60:]
    training = reference(recipe(), workers=1, images=part)
    assert_equal(training.epoch(1), fast(recipe(), 1))
    training.close()


def test_a_mapped_file_that_vanished_is_one_line(tmp_path):
    np.save(tmp_path / "images.npy", IMAGES)
    training = reference(recipe(), workers=1, images=np.load(tmp_path / "images.npy", mmap_mode="r"))
    (tmp_path / "images.npy").unlink()
    with pytest.raises(DataError) as caught:
        next(training.epoch(1))
    assert str(caught.value).startswith(f"{tmp_path / 'images.npy'}: cannot be mapped")
    assert "\n" not in str(caught.value)
    training.close()


def test_a_defect_in_a_worker_keeps_its_traceback():
    training = reference(recipe(), workers=1, labels=LABELS[:5])
    with pytest.raises(IndexError, match=r"(?s)in DataLoader worker process 0.*Traceback.*__getitem__"):
        next(training.epoch(1))
    training.close()


def test_a_killed_worker_is_one_line_and_leaves_no_other_behind():
    training = reference(recipe(), workers=2)
    batches = training.epoch(1)
    next(batches)
    pids = worker_pids(training)
    os.kill(pids[1], signal.SIGKILL)
    with pytest.raises(DataError, match=r"^one of the 2 processes .* died.* fewer --workers") as caught:
        list(batches)
    assert "\n" not in str(caught.value)
    assert not any(map(alive, pids))
    assert_equal(training.epoch(2), fast(recipe(), 2))  # by new workers
    training.close()


def test_too_little_shared_memory_is_one_line():
    resource = pytest.importorskip("resource")
    if not hasattr(resource, "prlimit"):
        pytest.skip("limits another process's files")
    training = reference(recipe(), workers=1)
    batches = training.epoch(1)
    next(batches)
    (pid,) = worker_pids(training)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (1000, 1000))  # as if /dev/shm had no more than that
    with pytest.raises(DataError, match=r"^/dev/shm has no room for .* make it larger, or use fewer --workers$"):
        list(batches)
    assert not alive(pid)
    training.close()


def test_no_shared_memory_for_locks_is_one_line(monkeypatch):
    def full():
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(reference_pipeline._CONTEXT, "Lock", full)
    training = reference(recipe(), workers=2)
    with pytest.raises(DataError, match=r"^/dev/shm has no room for the locks of 2 processes .* or use --workers 0$"):
        next(training.epoch(1))
    training.close()


def test_closing_ends_the_workers_in_the_middle_of_an_epoch():
    training = reference(recipe(), workers=2)
    batches = training.epoch(1)
    next(batches)
    pids = worker_pids(training)
    assert all(map(alive, pids))
    training.close()
    assert not any(map(alive, pids))
    with pytest.raises(RuntimeError):
        list(batches)
    with pytest.raises(RuntimeError):
        next(training.epoch(2))
    training.close()


PROGRAM = """
import sys, time
import numpy as np, torch
from mixmo_fast.mixing.recipe import Recipe
from pipelines.reference import ReferenceTraining

if __name__ == "__main__":
    images, labels = np.zeros((60, 12, 16, 3), np.uint8), np.zeros(60, np.int64)
    recipe = Recipe(60, 12, 2, 1, (12, 16), (12, 16), 3, True, 10)
    normalisation = (0.5,) * 3, (0.2,) * 3
    training = ReferenceTraining(images, labels, *normalisation, recipe, 5, torch.device("cpu"), workers=2)
    batches = training.epoch(1)
    next(batches)
    print("ready", flush=True)
    if sys.argv[1] != "exit":
        while True:
            time.sleep(0.01)
"""


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for processes in /proc")
@pytest.mark.parametrize(("way", "code"), [("exit", 0), ("interrupt", -signal.SIGINT), ("kill", -signal.SIGKILL)])
def test_no_process_outlives_a_program_that_did_not_close(tmp_path, way, code):
    script = tmp_path / "program.py"
    script.write_text(PROGRAM)
    program = subprocess.Popen(
        [sys.executable, str(script), way], stdout=subprocess.PIPE, start_new_session=True, text=True
    )
    with program:
        assert program.stdout.readline() == "ready\n"
        if way == "interrupt":
            os.killpg(program.pid, signal.SIGINT)  # as Ctrl-C does, which reaches the workers, too
        elif way == "kill":
            program.kill()
        assert program.wait(timeout=60) == code
    until = time.monotonic() + 60
    while of_group(program.pid) and time.monotonic() < until:
        time.sleep(0.05)
    assert not of_group(program.pid)


def of_group(group: int) -> list[str]:
    """The processes of a group that are not merely waiting to be reaped."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            line = path.read_text()
        except OSError:
            continue
        state, _, process_group = line.rpartition(")")[2].split()[:3]
        if int(process_group) == group and state != "Z":
            found.append(line)
    return found


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("workers", [0, 2])
def test_batches_on_cuda_are_those_of_the_cpu(workers):
    training = reference(recipe(), workers, device=torch.device("cuda"))
    for gpu, cpu in zip(training.epoch(1), fast(recipe(), 1), strict=True):
        for field in fields(Batch):
            assert torch.equal(getattr(gpu, field.name).cpu(), getattr(cpu, field.name)), field.name
        assert gpu.images.is_contiguous(memory_format=torch.channels_last)
    training.close()
