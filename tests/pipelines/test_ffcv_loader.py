"""The `ffcv` pipeline makes the batches that `resident` makes, and leaves nothing behind."""

import dataclasses
import os
import subprocess
import sys
import threading
from dataclasses import fields
from itertools import islice
from pathlib import Path

import numba
import pytest
import torch
from places import REPOSITORY, TESTS
from small_dataset import HEIGHT, IMAGES, WIDTH, write_small_dataset

from mixmo_fast.batch import Batch
from mixmo_fast.errors import DataError
from mixmo_fast.mixing.recipe import InputMixing, ManifoldMixing, Recipe
from pipelines import ffcv_loader
from pipelines.assembly.assemble import normalisation_table
from pipelines.datasets.store import Dataset
from pipelines.ffcv_loader import FfcvTraining
from pipelines.resident import ResidentTraining

CPU = torch.device("cpu")
ROOT = REPOSITORY

# FFCV's own warnings are not ours to mend.
needs_ffcv = [pytest.mark.ffcv, pytest.mark.filterwarnings("default"), pytest.mark.usefixtures("ffcv")]


def with_ffcv(test):
    for mark in needs_ffcv:
        test = mark(test)
    return test


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> Dataset:
    return write_small_dataset(tmp_path_factory.mktemp("small"))


@pytest.fixture
def small_pools(monkeypatch):
    """A few steps each, so that even these epochs need several."""
    monkeypatch.setattr(ffcv_loader, "_POOL_BYTES", 1 << 16)


def recipe(members: int = 2, msda: str | None = "cutmix", **changes) -> Recipe:
    values = {
        "images": IMAGES,
        "rows": 4,
        "repetitions": 2,
        "members": members,
        "image_size": (HEIGHT, WIDTH),
        "map_size": (HEIGHT, WIDTH),
        "crop_padding": 3,
        "flip": True,
        "epochs": 10,
        "mixing": ManifoldMixing("patch", 0.5, 2.0, 3.0, 11 / 12) if members > 1 else None,
        "msda": InputMixing(msda, 0.7, 1.0) if msda else None,
    }
    return Recipe(**(values | changes))


def resident(dataset: Dataset, a_recipe: Recipe, dtype: torch.dtype = torch.float32) -> ResidentTraining:
    table = normalisation_table(dataset.mean, dataset.std)
    return ResidentTraining(dataset.load_images("train"), dataset.load_labels("train"), table, a_recipe, 5, CPU, dtype)


def copied(batch: Batch) -> Batch:
    return Batch(*(getattr(batch, field.name).clone() for field in fields(Batch)))


def assert_same(found: Batch, expected: Batch) -> None:
    for field in fields(Batch):
        one, other = getattr(found, field.name), getattr(expected, field.name)
        assert one.dtype == other.dtype and torch.equal(one, other), field.name
    assert found.images.is_contiguous(memory_format=torch.channels_last)


def assert_same_epochs(dataset: Dataset, a_recipe: Recipe, *epochs: int, **options) -> None:
    expected, found = resident(dataset, a_recipe), FfcvTraining(dataset, a_recipe, 5, CPU, **options)
    assert found.steps_per_epoch == a_recipe.steps_per_epoch
    for epoch in epochs:
        for one, other in zip(found.epoch(epoch), expected.epoch(epoch), strict=True):
            assert_same(one, other)
    found.close()
    expected.close()


@with_ffcv
@pytest.mark.parametrize("members", [1, 2, 3])
@pytest.mark.parametrize("msda", [None, "mixup", "cutmix", "noise"])
def test_batches_equal_those_of_resident_bit_for_bit(dataset, small_pools, members, msda):
    assert_same_epochs(dataset, recipe(members, msda), 1, 2)


@with_ffcv
@pytest.mark.parametrize("repetitions", [1, 2, 4])
@pytest.mark.parametrize("rows", [4, 16])
def test_repetitions_and_rows_make_no_difference(dataset, small_pools, repetitions, rows):
    assert_same_epochs(dataset, recipe(repetitions=repetitions, rows=rows), 1, 2)


@with_ffcv
@pytest.mark.parametrize("cache", ["os", "process"])
@pytest.mark.parametrize("workers", [None, 1, 2, 1000])
def test_neither_workers_nor_the_cache_make_a_difference(dataset, small_pools, cache, workers):
    assert_same_epochs(dataset, recipe(), 3, 1, workers=workers, cache=cache)


@with_ffcv
@pytest.mark.parametrize("augmix", [False, True])
@pytest.mark.parametrize("pool_bytes", [1, 1 << 15, 1 << 30])
def test_pools_of_one_step_and_of_a_whole_block_make_no_difference(dataset, monkeypatch, pool_bytes, augmix):
    # One step each is where FFCV would soonest write into a pool that is still read.
    monkeypatch.setattr(ffcv_loader, "_POOL_BYTES", pool_bytes)
    a_recipe = recipe(repetitions=4, rows=4, augmix=augmix)
    assert a_recipe.steps_per_epoch == 60
    assert_same_epochs(dataset, a_recipe, *range(1, 9))


@with_ffcv
def test_low_precision_batches_are_the_rounded_ones(dataset):
    found, expected = FfcvTraining(dataset, recipe(), 5, CPU, torch.bfloat16), resident(dataset, recipe())
    assert torch.equal(next(found.epoch(1)).images, next(expected.epoch(1)).images.bfloat16())
    found.close()


@with_ffcv
@pytest.mark.parametrize("cache", ["os", "process"])
def test_an_epoch_that_is_given_up_changes_nothing_and_leaves_no_thread(dataset, small_pools, cache):
    before = set(threading.enumerate())
    batches, expected = FfcvTraining(dataset, recipe(), 5, CPU, cache=cache), resident(dataset, recipe())
    first = [copied(batch) for batch in expected.epoch(1)]
    for taken in (0, 1, 5):
        given_up = batches.epoch(2)
        list(islice(given_up, taken))
        given_up.close()
        assert not [thread for thread in threading.enumerate() if type(thread).__name__ == "ImageStream"]
    held = batches.epoch(2)
    next(held)
    for one, other in zip(batches.epoch(1), first, strict=True):
        assert_same(one, other)
    batches.close()
    expected.close()
    assert set(threading.enumerate()) <= before


@with_ffcv
def test_numbers_of_threads_stay_as_they_were(dataset):
    seen = []

    def numbers() -> tuple[int, int]:
        # A new thread begins with the process's number, which FFCV's threads could change.
        thread = threading.Thread(target=lambda: seen.append(torch.get_num_threads()))
        thread.start()
        thread.join()
        return torch.get_num_threads(), numba.get_num_threads(), seen.pop()

    before = numbers()
    for workers in (1, 2):
        batches = FfcvTraining(dataset, recipe(), 5, CPU, workers=workers)
        assert numbers() == before
        for _ in batches.epoch(1):
            assert numbers() == before
        batches.close()
        assert numbers() == before


@with_ffcv
def test_closing_lets_go_of_the_file(dataset):
    batches = FfcvTraining(dataset, recipe(), 5, CPU)
    held = batches.epoch(1)
    next(held)
    assert "train.beton" in Path("/proc/self/maps").read_text()
    batches.close()
    assert "train.beton" not in Path("/proc/self/maps").read_text()
    batches.close()


@with_ffcv
@pytest.mark.parametrize("cache", ["os", "process"])
def test_an_error_in_ffcvs_thread_is_raised_where_batches_are_asked_for(dataset, monkeypatch, cache):
    from ffcv.loader.epoch_iterator import EpochIterator

    def broken(self, number, *_):
        if number == 2:
            raise OSError("the disk is gone")
        return run_pipeline(self, number, *_)

    run_pipeline = EpochIterator.run_pipeline
    monkeypatch.setattr(ffcv_loader, "_POOL_BYTES", 1)
    monkeypatch.setattr(EpochIterator, "run_pipeline", broken)
    batches = FfcvTraining(dataset, recipe(), 5, CPU, cache=cache)
    with pytest.raises(DataError, match=r"train\.beton: ffcv stopped reading it .*the disk is gone"):
        list(batches.epoch(1))
    batches.close()


@with_ffcv
def test_threads_that_read_no_pages_are_noticed(dataset, monkeypatch):
    from ffcv.memory_managers.process_cache.page_reader import PageReader

    monkeypatch.setattr(PageReader, "run", lambda self: None)
    batches = FfcvTraining(dataset, recipe(), 5, CPU, cache="process")
    with pytest.raises(DataError, match=r"train\.beton: ffcv stopped reading it"):
        next(batches.epoch(1))
    batches.close()


@with_ffcv
@pytest.mark.parametrize("cache", ["os", "process"])
def test_a_file_that_disappears_is_named(tmp_path, cache):
    dataset = write_small_dataset(tmp_path)
    batches = FfcvTraining(dataset, recipe(), 5, CPU, cache=cache)
    dataset.beton_path("train").unlink()
    with pytest.raises(DataError, match=r"train\.beton: cannot be read \(No such file"):
        next(batches.epoch(1))
    batches.close()


@with_ffcv
def test_a_damaged_file_is_refused_before_ffcv_opens_it(tmp_path, monkeypatch):
    from pipelines import ffcv_stream

    dataset = write_small_dataset(tmp_path)
    monkeypatch.setattr(ffcv_stream, "Loader", None)
    path = dataset.beton_path("train")
    path.write_bytes(path.read_bytes()[:-24])
    with pytest.raises(DataError, match=r"train\.beton: .*--force`$"):
        FfcvTraining(dataset, recipe(), 5, CPU)
    empty = dataclasses.replace(dataset, folder=tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"train\.beton: cannot be read"):
        FfcvTraining(empty, recipe(), 5, CPU)


def test_without_ffcv_one_line_says_how_to_get_it(dataset, monkeypatch):
    monkeypatch.setitem(sys.modules, "ffcv", None)
    with pytest.raises(DataError, match=r"^the ffcv pipeline needs ffcv: run `make setup-ffcv`, .* pkg-config`$"):
        FfcvTraining(dataset, recipe(), 5, CPU)


def test_ffcv_that_does_not_load_gives_the_reason(dataset, tmp_path):
    """A system library is missing: ffcv is there, and its import fails; in a process that has not imported it yet."""
    (tmp_path / "ffcv").mkdir()
    (tmp_path / "ffcv" / "__init__.py").write_text("raise OSError('libturbojpeg.so.0: cannot open\\nshared object')\n")
    code = (
        f"import sys; sys.path[:0] = [{str(tmp_path)!r}]\n"
        "from pipelines.ffcv_loader import _import_image_file; _import_image_file()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    reason = (
        "which is installed but does not load (libturbojpeg.so.0: cannot open shared object): run `make setup-ffcv`"
    )
    assert f"DataError: the ffcv pipeline needs ffcv, {reason}" in done.stderr


@with_ffcv
def test_a_program_that_ends_in_the_middle_of_an_epoch_ends_and_kept_its_threads(dataset):
    """In a process that has not imported FFCV yet."""
    code = f"""
import sys
sys.path[:0] = [{str(TESTS / "pipelines")!r}, {str(TESTS / "support")!r}]
import numba, test_ffcv_loader as t, torch
from pathlib import Path
from pipelines.datasets.store import open_dataset
torch.set_num_threads(3)
numba.set_num_threads(2)
dataset = open_dataset(Path({str(dataset.folder.parent)!r}), "digits")
batches = t.FfcvTraining(dataset, t.recipe(), 5, t.CPU, workers=1)
epoch = batches.epoch(1)
next(epoch)
print(torch.get_num_threads(), numba.get_num_threads())
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=120,
        env=os.environ | {"NUMBA_NUM_THREADS": "2"},
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "3 2\n", "")
