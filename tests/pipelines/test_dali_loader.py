"""The `dali` pipeline makes the batches that `resident` makes, and leaves nothing behind."""

import subprocess
import sys
import time
from contextlib import closing
from dataclasses import fields
from itertools import islice
from pathlib import Path

import numba
import numpy as np
import pytest
import torch
from places import REPOSITORY, TESTS
from small_dataset import HEIGHT, IMAGES, WIDTH, write_small_dataset

from mixmo_fast.batch import Batch
from mixmo_fast.errors import DataError
from mixmo_fast.mixing.plan import draw_step_plan
from mixmo_fast.mixing.recipe import InputMixing, ManifoldMixing, Recipe
from pipelines import dali_loader
from pipelines.assembly.assemble import normalisation_table
from pipelines.assembly.samples import mix_by_numba, mix_by_torch
from pipelines.dali_loader import DaliTraining
from pipelines.datasets.store import Dataset, open_dataset
from pipelines.plans import pack, steps_per_block, unpack
from pipelines.resident import ResidentTraining

CPU = torch.device("cpu")
ROOT = REPOSITORY


@pytest.fixture
def dali():
    return pytest.importorskip("nvidia.dali")


def with_dali(test):
    return pytest.mark.dali(pytest.mark.usefixtures("dali")(test))


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> Dataset:
    return write_small_dataset(tmp_path_factory.mktemp("small"))


def recipe(members: int = 2, msda: str | None = "cutmix", **changes) -> Recipe:
    values = {
        "images": IMAGES,
        "rows": 12,
        "repetitions": 2,
        "members": members,
        "image_size": (HEIGHT, WIDTH),
        "map_size": (HEIGHT, WIDTH),
        "crop_padding": 4,
        "flip": True,
        "epochs": 10,
        "mixing": ManifoldMixing("patch", 0.5, 2.0, 3.0, 11 / 12) if members > 1 else None,
        "msda": InputMixing(msda, 0.7, 1.0) if msda else None,
    }
    return Recipe(**(values | changes))


def resident(dataset: Dataset, a_recipe: Recipe) -> ResidentTraining:
    table = normalisation_table(dataset.mean, dataset.std)
    return ResidentTraining(dataset.load_images("train"), dataset.load_labels("train"), table, a_recipe, 5, CPU)


def assert_same(found: Batch, expected: Batch) -> None:
    for field in fields(Batch):
        one, other = getattr(found, field.name), getattr(expected, field.name)
        assert one.dtype == other.dtype and torch.equal(one, other), field.name
    assert found.images.is_contiguous(memory_format=torch.channels_last)


def assert_same_epochs(dataset: Dataset, a_recipe: Recipe, *epochs: int, workers: int | None = 2) -> None:
    with (
        closing(resident(dataset, a_recipe)) as expected,
        closing(DaliTraining(dataset, a_recipe, 5, CPU, workers=workers)) as found,
    ):
        assert found.steps_per_epoch == a_recipe.steps_per_epoch
        for epoch in epochs:
            for one, other in zip(found.epoch(epoch), expected.epoch(epoch), strict=True):
                assert_same(one, other)


@with_dali
@pytest.mark.parametrize("members", [1, 2, 3])
@pytest.mark.parametrize("msda", [None, "mixup", "cutmix", "cow", "channel"])
def test_batches_equal_those_of_resident_bit_for_bit(dataset, members, msda):
    assert_same_epochs(dataset, recipe(members, msda), 1, 2)


@with_dali
@pytest.mark.parametrize("padding", [0, 4, 20])
@pytest.mark.parametrize("flip", [False, True])
def test_crops_and_flips_are_those_of_the_plan(dataset, padding, flip):
    assert_same_epochs(dataset, recipe(crop_padding=padding, flip=flip), 1)


@with_dali
@pytest.mark.parametrize("workers", [None, 1, 2, 5])
def test_the_number_of_workers_makes_no_difference(dataset, workers):
    assert_same_epochs(dataset, recipe(), 3, 1, workers=workers)


@with_dali
@pytest.mark.parametrize("rows", [1, 5, 12, 100])
def test_parts_of_a_step_make_no_difference(dataset, monkeypatch, rows):
    monkeypatch.setattr(dali_loader, "_ROWS_PER_PART", rows)
    assert_same_epochs(dataset, recipe(), 1, 2)


@with_dali
def test_blocks_of_plans_make_no_difference(dataset):
    a_recipe = recipe(rows=2)
    assert a_recipe.steps_per_epoch % steps_per_block(2)
    assert_same_epochs(dataset, a_recipe, 1, 2)


@with_dali
@pytest.mark.parametrize("augmix", [False, True])
def test_digits_are_read_as_they_were_converted(digits, augmix):
    dataset = open_dataset(digits, "digits")
    size = (dataset.height, dataset.width)
    changes = {"images": dataset.train_images, "rows": 96, "image_size": size, "map_size": size, "augmix": augmix}
    assert_same_epochs(dataset, recipe(**changes), 1)


@with_dali
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_low_precision_batches_are_the_rounded_ones(dataset, dtype):
    with closing(DaliTraining(dataset, recipe(), 5, CPU, dtype)) as found, closing(resident(dataset, recipe())) as full:
        assert torch.equal(next(found.epoch(1)).images, next(full.epoch(1)).images.to(dtype))


@with_dali
@pytest.mark.parametrize("augmix", [False, True])
def test_an_epoch_that_is_given_up_changes_no_other(dataset, augmix):
    a_recipe = recipe(augmix=augmix)
    with closing(DaliTraining(dataset, a_recipe, 5, CPU)) as batches, closing(resident(dataset, a_recipe)) as expected:
        for taken in (0, 1, 3, a_recipe.steps_per_epoch):
            held = batches.epoch(2)
            assert len(list(islice(held, taken))) == taken
            for one, other in zip(batches.epoch(1), expected.epoch(1), strict=True):
                assert_same(one, other)


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
    patience = time.monotonic() + 5  # a thread that was joined is listed until the system has cleared it away
    while threads() > before and time.monotonic() < patience:
        time.sleep(0.01)
    assert threads() <= before  # one of the libraries' own may have ended meanwhile
    assert "train_images.npy" not in Path("/proc/self/maps").read_text()
    for epoch in (held, batches.epoch(2)):
        with pytest.raises(RuntimeError, match="clos"):
            next(epoch)
    batches.close()


@with_dali
def test_numbers_of_threads_stay_as_they_were(dataset):
    before = torch.get_num_threads(), numba.get_num_threads()
    for workers in (1, 2):
        with closing(DaliTraining(dataset, recipe(), 5, CPU, workers=workers)) as batches:
            for _ in batches.epoch(1):
                assert (torch.get_num_threads(), numba.get_num_threads()) == before
        assert (torch.get_num_threads(), numba.get_num_threads()) == before


@with_dali
def test_a_program_that_ends_in_the_middle_of_an_epoch_ends_quietly(dataset):
    code = f"""
import sys
sys.path[:0] = [{str(TESTS / "pipelines")!r}, {str(TESTS / "support")!r}]
import test_dali_loader as t, torch
from pathlib import Path
torch.set_num_threads(3)
dataset = t.open_dataset(Path({str(dataset.folder.parent)!r}), "digits")
batches = t.DaliTraining(dataset, t.recipe(), 5, t.CPU, workers=1)
epoch = batches.epoch(1)
next(epoch)
print(torch.get_num_threads())
"""
    command = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=120)
    assert (done.returncode, done.stdout, done.stderr) == (0, "3\n", "")


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


def test_without_dali_one_line_says_how_to_get_it(dataset, monkeypatch):
    monkeypatch.setitem(sys.modules, "nvidia.dali", None)
    with pytest.raises(DataError) as error:
        DaliTraining(dataset, recipe(), 5, CPU)
    remedy = "run `make setup-dali`, or `pip install 'mixmo-fast[dali]'`"
    assert str(error.value) == f"the dali pipeline needs nvidia-dali-cuda120: {remedy}"


def test_dali_that_does_not_load_gives_the_reason(tmp_path):
    """A system library is missing: DALI is there, and its import fails; in a process that has not imported it yet."""
    (tmp_path / "nvidia" / "dali").mkdir(parents=True)
    (tmp_path / "nvidia" / "__init__.py").touch()
    (tmp_path / "nvidia" / "dali" / "__init__.py").write_text("raise ImportError('libgone.so: cannot open\\nfile')\n")
    code = (
        f"import sys; sys.path[:0] = [{str(tmp_path)!r}]; sys.modules.pop('nvidia', None)\n"
        "from pipelines.dali_loader import _import_dali; _import_dali()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    reason = "which is installed but does not load (libgone.so: cannot open file): run `make setup-dali`"
    assert f"DataError: the dali pipeline needs nvidia-dali-cuda120, {reason}" in done.stderr
