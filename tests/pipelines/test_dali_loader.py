"""The `dali` pipeline makes the batches that `resident` makes, and leaves nothing behind."""

import time
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import torch
from recipes import RESIZED
from recipes import small_recipe as recipe
from small_dataset import HEIGHT, WIDTH, assert_same_batch, resident, write_small_dataset

from mixmo_fast.mixing.plan import draw_step_plan
from mixmo_fast.mixing.recipe import Recipe
from pipelines import dali_loader
from pipelines.assembly.samples import mix_by_numba, mix_by_torch
from pipelines.dali_loader import DaliTraining
from pipelines.datasets.store import Dataset
from pipelines.plans import pack, unpack

CPU = torch.device("cpu")


@pytest.fixture
def dali():
    return pytest.importorskip("nvidia.dali")


def with_dali(test):
    return pytest.mark.dali(pytest.mark.usefixtures("dali")(test))


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> Dataset:
    return write_small_dataset(tmp_path_factory.mktemp("small"))


def assert_same_epochs(dataset: Dataset, a_recipe: Recipe, *epochs: int, workers: int | None = 2) -> None:
    with (
        closing(resident(dataset, a_recipe)) as expected,
        closing(DaliTraining(dataset, a_recipe, 5, CPU, workers=workers)) as found,
    ):
        assert found.steps_per_epoch == a_recipe.steps_per_epoch
        for epoch in epochs:
            for one, other in zip(found.epoch(epoch), expected.epoch(epoch), strict=True):
                assert_same_batch(one, other)


@with_dali
@pytest.mark.parametrize("augmented", [{}, RESIZED], ids=["standard", "resized"])
@pytest.mark.parametrize("rows", [1, 5])
def test_parts_of_a_step_make_no_difference(dataset, monkeypatch, rows, augmented):
    monkeypatch.setattr(dali_loader, "_ROWS_PER_PART", rows)
    assert_same_epochs(dataset, recipe(**augmented), 1, 2)


@with_dali
@pytest.mark.parametrize("augmented", [{}, RESIZED], ids=["standard", "resized"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_low_precision_batches_are_the_rounded_ones(dataset, dtype, augmented):
    a_recipe = recipe(**augmented)
    with closing(DaliTraining(dataset, a_recipe, 5, CPU, dtype)) as found, closing(resident(dataset, a_recipe)) as full:
        assert torch.equal(next(found.epoch(1)).images, next(full.epoch(1)).images.to(dtype))


@with_dali
def test_an_epoch_is_over_when_another_one_begins(dataset):
    with closing(DaliTraining(dataset, recipe(), 5, CPU)) as batches:
        first, second = batches.epoch(1), batches.epoch(2)
        next(first)
        next(second)
        with pytest.raises(RuntimeError, match="epoch 1 was ended"):
            next(first)
        next(second)


@with_dali
@pytest.mark.parametrize("augmix", [False, True])
def test_closing_ends_all_threads_and_lets_go_of_the_file(dataset, augmix):
    def threads() -> int:
        return len(list(Path("/proc/self/task").iterdir()))

    # Libraries start threads of their own once.
    with closing(DaliTraining(dataset, recipe(augmix=augmix), 5, CPU)) as warm:
        next(warm.epoch(1))
    before = threads()
    batches = DaliTraining(dataset, recipe(augmix=augmix), 5, CPU)
    held = batches.epoch(1)
    next(held)
    assert threads() > before
    assert "train_images.npy" in Path("/proc/self/maps").read_text()
    batches.close()
    patience = time.monotonic() + 30  # a thread that was joined is listed until the system has cleared it away
    while threads() > before and time.monotonic() < patience:
        time.sleep(0.01)
    assert threads() <= before  # one of the libraries' own may have ended meanwhile
    assert "train_images.npy" not in Path("/proc/self/maps").read_text()
    for epoch in (held, batches.epoch(2)):
        with pytest.raises(RuntimeError, match="clos"):
            next(epoch)
    batches.close()


@pytest.mark.parametrize("msda", [None, "mixup", "cutmix", "cow", "noise", "channel"])
@pytest.mark.parametrize("members", [1, 3])
def test_what_cuda_does_with_the_samples_has_the_bits_of_what_a_cpu_does(members, msda):
    plan = draw_step_plan(recipe(members, msda), 5, 1, 0)
    mixed = np.flatnonzero((plan.pixel_values != 1).any(axis=-1))
    assert len(mixed) < plan.flip[..., 0].size
    samples = torch.randn((plan.flip[..., 0].size + len(mixed), HEIGHT, WIDTH, 3))
    by_torch, by_numba = torch.full((2, 12, HEIGHT, WIDTH, members, 3), torch.nan)
    mix_by_numba(samples, mixed, plan, by_numba)
    mix_by_torch(samples.clone(), torch.from_numpy(mixed), unpack(pack(plan), plan), by_torch)
    assert torch.equal(by_torch, by_numba)
