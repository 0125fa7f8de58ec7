"""The `ffcv` pipeline makes the batches that `resident` makes, and leaves nothing behind."""

import dataclasses
import threading
from dataclasses import fields
from itertools import islice
from pathlib import Path

import pytest
import torch
from recipes import RESIZED
from recipes import small_recipe as recipe
from small_dataset import assert_same_batch, resident, write_small_dataset

from mixmo_fast.batch import Batch
from mixmo_fast.errors import DataError
from mixmo_fast.mixing.recipe import Recipe
from pipelines import ffcv_loader
from pipelines.datasets.store import Dataset
from pipelines.ffcv_loader import FfcvTraining

CPU = torch.device("cpu")
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


def copied(batch: Batch) -> Batch:
    return Batch(*(getattr(batch, field.name).clone() for field in fields(Batch)))


def assert_same_epochs(dataset: Dataset, a_recipe: Recipe, *epochs: int, **options) -> None:
    expected, found = resident(dataset, a_recipe), FfcvTraining(dataset, a_recipe, 5, CPU, **options)
    assert found.steps_per_epoch == a_recipe.steps_per_epoch
    for epoch in epochs:
        for one, other in zip(found.epoch(epoch), expected.epoch(epoch), strict=True):
            assert_same_batch(one, other)
    found.close()
    expected.close()


@with_ffcv
@pytest.mark.parametrize(("workers", "cache"), [(1000, "os"), (1, "process"), (2, "process"), (None, "process")])
def test_neither_workers_nor_the_cache_make_a_difference(dataset, small_pools, cache, workers):
    assert_same_epochs(dataset, recipe(), 3, 1, workers=workers, cache=cache)


@with_ffcv
@pytest.mark.parametrize("augmented", [{}, {"augmix": True}, RESIZED], ids=["standard", "augmix", "resized"])
@pytest.mark.parametrize("pool_bytes", [1, 1 << 15, 1 << 30])
def test_pools_of_one_step_and_of_a_whole_block_make_no_difference(dataset, monkeypatch, pool_bytes, augmented):
    # One step each is where FFCV would soonest write into a pool that is still read.
    monkeypatch.setattr(ffcv_loader, "_POOL_BYTES", pool_bytes)
    a_recipe = recipe(repetitions=4, rows=4, **augmented)
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
        assert_same_batch(one, other)
    batches.close()
    expected.close()
    assert set(threading.enumerate()) <= before


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
