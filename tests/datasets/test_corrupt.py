"""Synthetic corruptions do what their names say, by slow or independent twins, and depend on nothing else."""

import io
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy import ndimage, stats

from pipelines.datasets import corrupt as module
from pipelines.datasets.corrupt import CORRUPTIONS, SEVERITIES, corrupt
from pipelines.datasets.jpeg import jpeg, nearest, quantisation_table

NOISES = ("gaussian_noise", "shot_noise", "impulse_noise")
every_corruption = pytest.mark.parametrize("name", CORRUPTIONS)
every_severity = pytest.mark.parametrize("severity", SEVERITIES)


def pictures(count: int, height: int, width: int) -> torch.Tensor:
    """Smooth coloured shapes with some grain, so that there is something to lose at every scale."""
    random = np.random.default_rng(5)
    coarse = ndimage.gaussian_filter(random.normal(size=(count, height, width, 3)), (0, 2, 2, 0), mode="wrap")
    spread = coarse / coarse.std() * 50 + 128 + random.normal(size=coarse.shape) * 8
    return torch.from_numpy(spread.clip(0, 255).astype(np.uint8))


def change(corrupted: torch.Tensor, images: torch.Tensor) -> float:
    return (corrupted.double() - images.double()).abs().mean().item()


@every_corruption
@pytest.mark.parametrize("size", [(16, 16), (32, 32), (64, 64), (16, 24)])
def test_each_severity_changes_more_than_the_one_before(name, size):
    images = pictures(12, *size)
    kept = images.clone()
    changes = [change(corrupt(images, name, severity, seed=1), images) for severity in SEVERITIES]
    assert changes[0] > 0.5
    assert all(less < more for less, more in pairwise(changes)), changes
    assert torch.equal(images, kept)


@every_corruption
def test_the_result_has_the_type_and_layout_of_the_images(name):
    corrupted = corrupt(pictures(3, 16, 20), name, 3, seed=0)
    assert (corrupted.dtype, corrupted.shape) == (torch.uint8, (3, 16, 20, 3))
    assert corrupted.is_contiguous()
    assert corrupt(pictures(3, 16, 20)[:0], name, 3, seed=0).shape == (0, 16, 20, 3)


@settings(max_examples=25)
@given(name=st.sampled_from(CORRUPTIONS), cuts=st.lists(st.integers(0, 10), max_size=3), seed=st.integers(0, 2**64 - 1))
def test_cutting_a_split_into_batches_changes_nothing(name, cuts, seed):
    images = pictures(10, 15, 17)
    whole = corrupt(images, name, 4, seed)
    edges = sorted({0, *cuts, 10})
    parts = [corrupt(images[a:b], name, 4, seed, first=a) for a, b in pairwise(edges)]
    assert torch.equal(torch.cat(parts), whole)


@every_corruption
def test_what_is_done_at_once_to_save_memory_changes_nothing(name, monkeypatch):
    images = pictures(10, 16, 16)
    whole = corrupt(images, name, 2, seed=3)
    monkeypatch.setattr(module, "_VALUES_AT_ONCE", 3 * 16 * 16 * 3)
    assert torch.equal(corrupt(images, name, 2, seed=3), whole)


@every_corruption
def test_the_seed_decides_the_noises_alone(name):
    images = pictures(4, 16, 16)
    first, again, other = (corrupt(images, name, 3, seed) for seed in (8, 8, 9))
    assert torch.equal(first, again)
    assert torch.equal(first, other) == (name not in NOISES)


def test_no_two_images_severities_or_seeds_share_their_noise():
    grey = torch.full((2, 64, 64, 3), 128, dtype=torch.uint8)
    fields = [
        field.double().flatten() - 128
        for corrupted in (corrupt(grey, "gaussian_noise", 4, 0), corrupt(grey, "gaussian_noise", 5, 0))
        for field in corrupted
    ]
    fields.append(corrupt(grey, "gaussian_noise", 4, 1)[0].double().flatten() - 128)
    fields.append(corrupt(grey, "shot_noise", 4, 0)[0].double().flatten() - 128)
    correlations = np.corrcoef(torch.stack(fields).numpy())
    assert np.abs(correlations - np.eye(len(fields))).max() < 5 / np.sqrt(len(fields[0]))


@pytest.mark.parametrize(("severity", "deviation"), [(1, 0.03), (3, 0.1)])
def test_gaussian_noise_is_normal_with_its_deviation(severity, deviation):
    grey = torch.full((4, 64, 64, 3), 128, dtype=torch.uint8)
    noise = corrupt(grey, "gaussian_noise", severity, 0).double().numpy().ravel() - 128
    counts = np.array([(noise == step).sum() for step in range(-90, 91)])
    edges = stats.norm(scale=deviation * 255).cdf(np.arange(-90.5, 91))
    expected = np.diff(edges) * len(noise)
    common = expected > 20
    chi_square = ((counts - expected)[common] ** 2 / expected[common]).sum()
    assert stats.chi2(common.sum()).sf(chi_square) > 1e-4
    assert counts[common].sum() > 0.99 * len(noise)


@pytest.mark.parametrize(("severity", "photons"), [(1, 300), (4, 20), (5, 10)])
def test_shot_noise_is_a_poisson_count_of_photons(severity, photons):
    for value in (0, 3, 102, 200):
        images = torch.full((4, 64, 64, 3), value, dtype=torch.uint8)
        corrupted = corrupt(images, "shot_noise", severity, 0).numpy().ravel()
        poisson = stats.poisson(value / 255 * photons)
        chances = poisson.pmf(np.arange(photons + 1))
        chances[-1] = poisson.sf(photons - 1)  # what is clipped to white
        levels = np.floor(np.arange(photons + 1) * 255 / photons + 0.5).astype(int)
        expected = np.bincount(levels, weights=chances, minlength=256) * len(corrupted)
        counts = np.bincount(corrupted, minlength=256)
        assert counts[expected == 0].sum() == 0  # nothing but whole photons
        common = expected > 20
        chi_square = ((counts - expected)[common] ** 2 / expected[common]).sum()
        assert stats.chi2(common.sum()).sf(chi_square) > 1e-4, value
        assert counts[common].sum() > 0.99 * len(corrupted)


def test_each_value_has_its_own_expected_photons():
    """Values side by side, since one table serves all 256 of them."""
    ramp = torch.arange(256, dtype=torch.uint8).repeat(64, 1).view(64, 16, 16, 1).repeat(1, 1, 1, 3)
    corrupted = corrupt(ramp, "shot_noise", 1, 0).double()
    mean = corrupted.permute(1, 2, 0, 3).reshape(256, -1).mean(dim=1)
    values = torch.arange(256.0)
    error = (values * 255 / 300 / 192).sqrt()
    assert ((mean - values).abs() < 5 * error + 0.5)[:200].all()  # brighter ones are clipped


@pytest.mark.parametrize(("severity", "share"), [(1, 0.01), (5, 0.2)])
def test_impulse_noise_replaces_its_share_by_black_and_white_alike(severity, share):
    images = pictures(8, 64, 64).clamp(1, 254)
    corrupted = corrupt(images, "impulse_noise", severity, 0)
    changed = corrupted != images
    assert set(corrupted[changed].unique().tolist()) == {0, 255}
    count = images.numel()
    for extreme in (0, 255):
        found = (corrupted == extreme).sum().item()
        assert abs(found - count * share / 2) < 5 * np.sqrt(count * share / 2)


@pytest.mark.parametrize(("side", "severity", "deviation"), [(32, 1, 0.8), (32, 5, 2.4), (64, 3, 2.8), (16, 4, 0.9)])
def test_blur_is_scipys_gaussian_filter(side, severity, deviation):
    images = pictures(3, side, side)
    # Scipy cuts the filter off elsewhere, hence the tolerance.
    expected = ndimage.gaussian_filter(images.double().numpy(), (0, deviation, deviation, 0), mode="mirror", truncate=6)
    found = corrupt(images, "gaussian_blur", severity, 0).numpy()
    assert np.abs(found - expected).max() < 0.52


@pytest.mark.parametrize("name", ["gaussian_blur", "contrast", "pixelate", "jpeg"])
@pytest.mark.parametrize("value", [0, 130, 255])
def test_what_only_removes_detail_leaves_an_even_grey_as_it_is(name, value):
    for height, width in ((16, 16), (17, 23), (64, 64)):
        even = torch.full((2, height, width, 3), value, dtype=torch.uint8)
        for severity in SEVERITIES:
            distance = (corrupt(even, name, severity, 0).int() - value).abs().max().item()
            # JPEG rounds the mean of a block to steps too: luminance steps of an eighth of 16 * 50 / quality.
            assert distance <= (8 if name == "jpeg" else 0)


@every_severity
def test_contrast_shrinks_the_distance_to_each_images_own_mean(severity):
    images = pictures(4, 16, 16)
    factor = (0.75, 0.55, 0.4, 0.25, 0.15)[severity - 1]
    found = corrupt(images, "contrast", severity, 0)
    for image, corrupted in zip(images.double().numpy(), found.numpy(), strict=True):
        for channel in range(3):
            mean = image[..., channel].mean()
            expected = np.round(mean + factor * (image[..., channel] - mean))
            assert (corrupted[..., channel] == expected).all()


@pytest.mark.parametrize(("severity", "values"), [(1, [20, 120, 255]), (3, [61, 161, 255]), (5, [102, 202, 255])])
def test_brightness_adds_a_constant_up_to_white(severity, values):
    images = torch.tensor([0, 100, 250], dtype=torch.uint8).view(1, 1, 3, 1).repeat(1, 1, 1, 3)
    assert corrupt(images, "brightness", severity, 0)[0, 0, :, 0].tolist() == values


def slow_area_average(image: np.ndarray, fewer: int) -> np.ndarray:
    """Down to `fewer` rows: each row is cut into that many equal slices, so that every output takes whole slices."""
    side = len(image)
    return np.repeat(image.astype(float), fewer, axis=0).reshape(fewer, side, *image.shape[1:]).mean(axis=1)


def slow_repetition(image: np.ndarray, side: int) -> np.ndarray:
    """Up to `side` rows: each row is cut into slices so thin that the middle of every output is where one begins."""
    return np.repeat(image, 2 * side, axis=0)[len(image) :: 2 * len(image)]


@pytest.mark.parametrize("size", [(16, 16), (32, 32), (64, 64), (12, 16), (17, 23)])
@every_severity
def test_pixelate_averages_by_area_and_repeats_the_nearest(size, severity):
    images = pictures(2, *size)
    share = (0.75, 0.625, 0.5, 0.375, 0.25)[severity - 1]
    expected = images.numpy().astype(float)
    for axis in (1, 2):
        expected = slow_area_average(expected.swapaxes(0, axis), round(size[axis - 1] * share)).swapaxes(0, axis)
    expected = np.floor(expected + 0.5 + 1e-9)  # halves up
    for axis in (1, 2):
        expected = slow_repetition(expected.swapaxes(0, axis), size[axis - 1]).swapaxes(0, axis)
    assert (corrupt(images, "pixelate", severity, 0).numpy() == expected).all()


@pytest.mark.parametrize(("severity", "ratio"), [(3, 2), (5, 4)])
def test_pixelate_by_a_whole_ratio_is_pillows_reduction(severity, ratio):
    images = pictures(2, 32, 64)
    for image, corrupted in zip(images.numpy(), corrupt(images, "pixelate", severity, 0).numpy(), strict=True):
        expected = np.asarray(Image.fromarray(image).reduce(ratio)).repeat(ratio, axis=0).repeat(ratio, axis=1)
        assert np.abs(corrupted.astype(int) - expected).max() <= 1


def through_pillow(image: np.ndarray, quality: int) -> Image.Image:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=quality, subsampling="4:2:0")
    return Image.open(file)


@pytest.mark.parametrize("size", [(16, 16), (32, 32), (64, 64), (12, 16), (17, 23)])
@pytest.mark.parametrize("quality", [90, 50, 30, 20, 12, 7])
def test_jpeg_is_what_pillow_makes_of_an_image(size, quality):
    images = pictures(6, *size)
    ours = nearest(jpeg(images.double().permute(0, 3, 1, 2), quality)).clamp(0, 255).permute(0, 2, 3, 1)
    theirs = torch.from_numpy(np.stack([np.asarray(through_pillow(image, quality)) for image in images.numpy()]))
    # A frequency that lies between two steps may go to the other one, since libjpeg transforms in whole numbers.
    assert change(ours, theirs) < 1.1
    assert change(ours, theirs) < 0.25 * change(theirs, images)


@pytest.mark.parametrize(("severity", "quality"), [(1, 50), (2, 30), (3, 20), (4, 12), (5, 7)])
def test_the_jpeg_corruption_uses_its_quality(severity, quality):
    images = pictures(3, 32, 32)
    expected = nearest(jpeg(images.double().permute(0, 3, 1, 2), quality)).clamp(0, 255).permute(0, 2, 3, 1)
    assert torch.equal(corrupt(images, "jpeg", severity, 0), expected.to(torch.uint8))


@pytest.mark.parametrize("quality", [1, 7, 12, 49, 50, 51, 90, 100])
def test_quantisation_tables_are_the_ones_that_pillow_writes(quality):
    written = through_pillow(np.zeros((16, 16, 3), np.uint8), quality).quantization
    assert list(quantisation_table(quality, chroma=False)) == list(written[0])
    assert list(quantisation_table(quality, chroma=True)) == list(written[1])


@pytest.mark.parametrize("quality", [0, 101])
def test_a_quality_that_jpeg_does_not_have_is_refused(quality):
    with pytest.raises(ValueError, match="quality must be 1 to 100"):
        quantisation_table(quality, chroma=False)


def test_the_documented_severities_are_the_ones_applied():
    rows = [line.split("|") for line in module.__doc__.splitlines() if line.startswith("| `")]
    documented = {row[1].strip(" `"): tuple(float(number) for number in row[3].split(",")) for row in rows}
    assert documented == {name: getattr(module, f"_{name.upper()}") for name in CORRUPTIONS}


@pytest.mark.parametrize(
    ("images", "name", "severity", "first", "message"),
    [
        (torch.zeros(1, 8, 8, 3), "jpeg", 1, 0, "uint8"),
        (torch.zeros(1, 3, 8, 8, dtype=torch.uint8), "jpeg", 1, 0, r"\(N, H, W, 3\)"),
        (torch.zeros(8, 8, 3, dtype=torch.uint8), "jpeg", 1, 0, r"\(N, H, W, 3\)"),
        (torch.zeros(1, 8, 8, 3, dtype=torch.uint8), "fog", 1, 0, "no corruption 'fog'"),
        (torch.zeros(1, 8, 8, 3, dtype=torch.uint8), "jpeg", 0, 0, "1 to 5, found 0"),
        (torch.zeros(1, 8, 8, 3, dtype=torch.uint8), "jpeg", 6, 0, "1 to 5, found 6"),
        (torch.zeros(1, 8, 8, 3, dtype=torch.uint8), "jpeg", 1, -1, "must not be negative"),
    ],
)
def test_what_cannot_be_corrupted_is_refused(images, name, severity, first, message):
    with pytest.raises(ValueError, match=message):
        corrupt(images, name, severity, seed=0, first=first)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@every_corruption
def test_a_gpu_makes_the_same_images(name):
    images = pictures(50, 32, 32)
    on_cpu, on_gpu = corrupt(images, name, 3, 0), corrupt(images.cuda(), name, 3, 0)
    assert on_gpu.is_cuda
    distance = (on_cpu.int() - on_gpu.cpu().int()).abs()
    assert distance.max() <= 1
    assert (distance > 0).double().mean() < 1e-4
