"""Batches from images of one's own, in memory or behind a torch `Dataset`: those that a converted data set gives."""

import dataclasses
import functools

import numpy as np
import pytest
import torch
from PIL import Image
from small_dataset import assert_same_batch

import mixmo_fast as mf
from mixmo_fast.errors import DataError
from pipelines.items import as_rgb

RECIPE = mf.Recipe(
    images=48,
    rows=16,
    repetitions=2,
    members=2,
    image_size=(12, 16),
    map_size=(12, 16),
    crop_padding=2,
    flip=True,
    epochs=3,
    mixing=mf.ManifoldMixing("patch", prob=0.5, alpha=2.0, weight_root=3.0, decay_from=1.0),
    msda=mf.InputMixing("cutmix", prob=0.5, beta=1.0),
)
IMAGES = np.random.default_rng(0).integers(0, 256, (48, 12, 16, 3), dtype=np.uint8)
LABELS = np.arange(48) % 5
STATISTICS = {"mean": (0.4, 0.5, 0.6), "std": (0.2, 0.3, 0.4)}


class Pairs(torch.utils.data.Dataset):
    """What torchvision's data sets give: a Pillow image and a class."""

    def __init__(self, wrap=Image.fromarray, images=IMAGES):
        self.wrap, self.images, self.asked = wrap, images, []

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        self.asked.append(index)
        return self.wrap(self.images[index]), int(LABELS[index])


def as_tensor(image: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(image).permute(2, 0, 1)


def batches(images, labels, recipe=RECIPE, **options) -> list[mf.Batch]:
    with mf.batches_of(images, labels, recipe, **STATISTICS | options) as found:
        kept = [[tensor.clone() for tensor in vars(batch).values()] for batch in found.epoch(2)]
    return [mf.Batch(*tensors) for tensors in kept]


@functools.cache
def expected() -> list[mf.Batch]:
    return batches(IMAGES, LABELS)


def assert_equal_batches(found: list[mf.Batch]) -> None:
    assert len(found) == len(expected()) == RECIPE.steps_per_epoch == 6
    for step, (one, other) in enumerate(zip(found, expected(), strict=True)):
        assert_same_batch(one, other, step)


def test_arrays_give_what_a_converted_data_set_gives(digits):
    config = mf.load_config("configs/quickstart.yaml")
    dataset = mf.open_dataset("digits", digits)
    recipe = mf.make_recipe(config, dataset)
    statistics = {"mean": dataset.mean, "std": dataset.std}
    images, labels = dataset.load_images("train"), dataset.load_labels("train")
    with (
        mf.training_batches(config, dataset) as stored,
        mf.batches_of(images, labels, recipe, seed=config.seed, **statistics) as own,
    ):
        for one, other, _ in zip(own.epoch(1), stored.epoch(1), range(3), strict=False):
            assert_same_batch(one, other)


def test_a_tensor_of_channels_first_is_the_same_images():
    assert_equal_batches(batches(torch.from_numpy(IMAGES).permute(0, 3, 1, 2), torch.from_numpy(LABELS)))
    assert_equal_batches(batches(IMAGES, LABELS.tolist()))


@pytest.mark.parametrize("wrap", [Image.fromarray, np.asarray, as_tensor])
def test_a_torch_dataset_gives_the_same_batches(wrap):
    assert_equal_batches(batches(Pairs(wrap), None, workers=0))


def test_resized_crops_are_the_same_too():
    recipe = dataclasses.replace(RECIPE, crop_padding=0, resized_crop=mf.ResizedCrop(scale=(0.3, 1.0)))
    arrays, items = batches(IMAGES, LABELS, recipe), batches(Pairs(), None, recipe, workers=0)
    for one, other, plain in zip(arrays, items, expected(), strict=True):
        assert_same_batch(one, other)
        assert not torch.equal(one.images, plain.images)


def test_worker_processes_read_it(recwarn):
    assert_equal_batches(batches(Pairs(), None, workers=2))


def test_grey_images_are_repeated():
    grey = np.repeat(IMAGES[..., :1], 3, axis=3)
    alike = batches(IMAGES[..., 0], LABELS), batches(Pairs(images=IMAGES[..., 0]), None, workers=0)
    for found in alike:
        for one, other in zip(found, batches(grey, LABELS), strict=True):
            assert_same_batch(one, other)


def test_an_item_is_made_once_a_row():
    items = Pairs()
    with mf.batches_of(items, None, RECIPE, **STATISTICS, workers=0) as found:
        next(iter(found.epoch(1)))
    assert len(items.asked) <= RECIPE.most_images_a_step


def test_mean_and_standard_deviation_are_those_of_the_pixels():
    mean, std = mf.mean_and_std(IMAGES)
    pixels = IMAGES.astype(np.float64) / 255
    np.testing.assert_allclose(mean, pixels.mean(axis=(0, 1, 2)), rtol=1e-12)
    np.testing.assert_allclose(std, pixels.std(axis=(0, 1, 2)), rtol=1e-12)
    with (
        mf.batches_of(IMAGES, LABELS, RECIPE) as own,
        mf.batches_of(IMAGES, LABELS, RECIPE, mean=mean, std=std) as told,
    ):
        assert_same_batch(next(iter(own.epoch(1))), next(iter(told.epoch(1))))


def test_normalised_images_are_torchvisions():
    import torchvision.transforms.functional as TF

    mean, std = STATISTICS.values()
    found = mf.normalise(IMAGES, mean, std)
    assert found.is_contiguous(memory_format=torch.channels_last)
    for one, image in zip(found, IMAGES, strict=True):
        assert torch.equal(one, TF.normalize(TF.to_tensor(image), mean, std))


@pytest.mark.parametrize(
    ("images", "labels", "options", "said"),
    [
        (IMAGES.astype(np.float32), LABELS, {}, "images: found float32 of shape (48, 12, 16, 3), allowed: bytes"),
        (IMAGES[:40], LABELS[:40], {}, "recipe.images: found 48, allowed: 40"),
        (IMAGES[:, :8], LABELS, {}, "recipe.image_size: found (12, 16), allowed: (8, 16)"),
        (IMAGES, LABELS[:-1], {}, "labels: found int64 of shape (47,), allowed: 48 whole numbers from 0"),
        (IMAGES, LABELS - 1, {}, "labels: found int64 of shape (48,), allowed: 48 whole numbers from 0"),
        (IMAGES, LABELS / 2, {}, "labels: found float64"),
        (IMAGES, None, {}, "labels: found object"),
        (Pairs(), LABELS, {}, "labels: found some beside a Dataset"),
        (Pairs(), None, {"mean": None}, "mean, std: missing with a Dataset"),
        (Pairs(images=IMAGES[:40]), None, {}, "recipe.images: found 48, allowed: 40, as the Dataset has items"),
        (Pairs(lambda image: image), None, {"workers": 2}, "cannot be sent to worker processes"),
    ],
)
def test_what_contradicts_itself_is_refused_in_a_line(images, labels, options, said):
    with pytest.raises(DataError) as refused:
        batches(images, labels, **options)
    assert said in str(refused.value) and "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("wrap", "said"),
    [
        (lambda image: image / 255, "found float64 of shape (12, 16, 3), allowed: a Pillow image, or bytes"),
        (lambda image: image[:8], "an image of 8x16, allowed: 12x16"),
        (lambda image: "picture.png", "found str, allowed: a Pillow image"),
    ],
)
def test_an_item_that_is_no_such_image_is_named(wrap, said):
    with pytest.raises(DataError, match=r"item \d+: ") as refused:
        batches(Pairs(wrap), None, workers=0)
    assert said in str(refused.value)


def test_an_item_without_a_class_is_named():
    class Unlabelled(Pairs):
        def __getitem__(self, index):
            return super().__getitem__(index)[0], -1

    with pytest.raises(DataError, match=r"item \d+: class -1, allowed: a whole number from 0"):
        batches(Unlabelled(), None, workers=0)


def test_pillow_images_are_made_rgb_as_a_converted_data_sets_are():
    """Sixteen bits are scaled, where Pillow alone would clip them; what is transparent is black."""
    deep = Image.fromarray(np.full((2, 3), 128 * 257, dtype=np.uint16))
    assert (as_rgb(deep, "x") == 128).all()
    assert not as_rgb(Image.new("RGBA", (3, 2), (200, 100, 50, 0)), "x").any()
    with pytest.raises(DataError, match="x: floating-point pixels, which have no known range"):
        as_rgb(Image.new("F", (3, 2)), "x")
