"""The pixels of resized crops: Pillow's bytes, whoever makes them, and a run that may be interrupted anywhere."""

import os
import signal
from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest
import torch
import torchvision.transforms.functional as TF
from hypothesis import given, settings
from hypothesis import strategies as st
from lab import CONFIG, Lab, assert_same_tensors
from PIL import Image
from recipes import RESIZED, small_recipe
from small_dataset import assert_same_batch
from torch._inductor import metrics

from mixmo_fast.errors import Stopped
from mixmo_fast.mixing.plan import StepPlan, draw_step_plan
from mixmo_fast.mixing.recipe import Recipe
from pipelines.assembly.assemble import ONE_KERNEL, assemble, assemble_resized_pixels, normalisation_table
from pipelines.assembly.pixels import Pixels
from pipelines.assembly.resize import SHARE_ONE, resize_taps
from pipelines.assembly.samples import list_samples, places_of
from pipelines.plans import pack, unpack
from pipelines.resident import ResidentTraining

CPU = torch.device("cpu")
IMAGES = np.random.default_rng(0).integers(0, 256, (60, 12, 16, 3), dtype=np.uint8)
LABELS = np.random.default_rng(1).integers(0, 10, 60)
TABLE = normalisation_table((0.49, 0.48, 0.45), (0.2023, 0.1994, 0.201))
AS_BYTES = np.tile(np.arange(256, dtype=np.float32), (3, 1))
BILINEAR = TF.InterpolationMode.BILINEAR
CASES = [(members, msda) for members in (1, 2, 3) for msda in (None, "cutmix", "mixup", "cow", "channel")]


def resized_recipe(members: int = 2, msda: str | None = "cutmix", **changes) -> Recipe:
    return small_recipe(members, msda, **RESIZED | changes)


def training(a_recipe: Recipe, dtype: torch.dtype = torch.float32) -> ResidentTraining:
    return ResidentTraining(IMAGES, LABELS, TABLE, a_recipe, 5, CPU, dtype)


def as_tensors(plan: StepPlan) -> StepPlan:
    return unpack(pack(plan), plan)


def plan_of(boxes: np.ndarray, flip: np.ndarray) -> StepPlan:
    """One image a row, unmixed: boxes int32 (B, 4), flips (B,)."""
    rows = len(boxes)
    alone = small_recipe(1, None, **RESIZED, images=rows, rows=rows, repetitions=1)
    index = np.arange(rows, dtype=np.int32)[:, None, None].repeat(2, axis=2)
    crop, flip = (np.stack((values, values), axis=1)[:, None] for values in (boxes, flip.astype(np.uint8)))
    return replace(draw_step_plan(alone, 1, 1, 0), index=index, crop=crop, flip=flip)


def made(images: np.ndarray, plan: StepPlan) -> tuple[np.ndarray, np.ndarray]:
    """The crops uint8 (B, H, W, C) by numba and by torch."""
    alone = small_recipe(1, None, **RESIZED, image_size=images.shape[1:3], map_size=(1, 1))
    pixels, pool = Pixels(AS_BYTES, alone, CPU, torch.float32), torch.from_numpy(images)
    out = torch.full((len(plan.index), *images.shape[1:]), torch.nan)
    pixels.by_numba(pool, plan, out, 0, len(out))
    by_torch = pixels.by_torch(pool, as_tensors(plan))
    return out.numpy(), by_torch.numpy()


@st.composite
def boxes_in(draw, size: tuple[int, int], rows: int) -> np.ndarray:
    """Boxes (rows, 4) in images of a size."""
    boxes = []
    for _ in range(rows):
        tall, wide = (draw(st.integers(1, side)) for side in size)
        boxes.append((draw(st.integers(0, size[0] - tall)), draw(st.integers(0, size[1] - wide)), tall, wide))
    return np.array(boxes, dtype=np.int32)


@settings(max_examples=150, deadline=None)
@given(st.data(), st.integers(1, 100), st.integers(1, 100), st.integers(0, 2**32))
def test_all_make_the_bytes_that_torchvision_makes_by_pillow(data, height, width, seed):
    random = np.random.default_rng(seed)
    images = random.integers(0, 256, (4, height, width, 3), dtype=np.uint8)
    images[2:] = images[2:] // 128 * 255  # the steepest edges there are
    boxes, flip = data.draw(boxes_in((height, width), 4)), random.integers(0, 2, 4)
    by_numba, by_torch = made(images, plan_of(boxes, flip))
    for row, (image, box, flipped) in enumerate(zip(images, boxes.tolist(), flip, strict=True)):
        crop = TF.resized_crop(Image.fromarray(image), *box, [height, width], BILINEAR)
        expected = np.asarray(TF.hflip(crop) if flipped else crop)
        np.testing.assert_array_equal(by_numba[row], expected)
        np.testing.assert_array_equal(by_torch[row], expected)


@pytest.mark.parametrize("size", [(64, 64), (32, 32), (28, 28), (96, 97), (224, 224)])
def test_they_are_torchs_own_bilinear_interpolation_within_a_grey_level(size):
    random = np.random.default_rng(2)
    images = random.integers(0, 256, (30, *size, 3), dtype=np.uint8)
    tall_wide = random.integers(1, np.array(size) + 1, (30, 2))
    boxes = np.concatenate((random.integers(0, np.array(size) - tall_wide + 1), tall_wide), axis=1).astype(np.int32)
    found, _ = made(images, plan_of(boxes, np.zeros(30)))
    largest = 0
    for image, (top, left, tall, wide), crop in zip(images, boxes, found, strict=True):
        box = torch.from_numpy(image[top : top + tall, left : left + wide]).permute(2, 0, 1)[None].float()
        expected = torch.nn.functional.interpolate(box, size, mode="bilinear")[0].permute(1, 2, 0).numpy()
        largest = max(largest, np.abs(crop - np.rint(expected)).max())
        assert np.abs(crop - expected).mean() < 0.4
    assert largest == 1


@pytest.mark.parametrize("size", [(12, 16), (1, 5), (64, 64)])
def test_the_box_that_is_the_whole_image_leaves_it_as_it_is(size):
    images = np.random.default_rng(3).integers(0, 256, (2, *size, 3), dtype=np.uint8)
    for crops in made(images, plan_of(np.array([[0, 0, *size]] * 2, dtype=np.int32), np.array([0, 1]))):
        np.testing.assert_array_equal(crops[0], images[0])
        np.testing.assert_array_equal(crops[1], images[1, :, ::-1])


@pytest.mark.parametrize("side", [1, 2, 31, 32, 224, 1024])
def test_neighbours_lie_in_the_box_and_no_pixel_of_it_is_skipped(side):
    lower, share = resize_taps(side).astype(int)
    for length in range(1, side + 1):
        assert lower[length, 0] == 0 and lower[length, -1] >= length - 2
        assert set(np.diff(lower[length])) <= {0, 1}  # it is never made smaller
    assert (share >= 0).all() and (share <= SHARE_ONE).all()
    assert (share[side] == 0).all()


@pytest.mark.parametrize(("members", "msda"), CASES)
def test_the_resident_pipeline_equals_its_readable_twin_bit_for_bit(members, msda):
    a_recipe = resized_recipe(members, msda)
    with closing(training(a_recipe)) as batches:
        for step, batch in enumerate(batches.epoch(2)):
            plan = as_tensors(draw_step_plan(a_recipe, 5, 2, step))
            arrays = (torch.from_numpy(array) for array in (IMAGES, LABELS, TABLE))
            assert_same_batch(batch, assemble(*arrays, plan, 0, torch.float32), step)


@pytest.mark.parametrize("rows", [2, 60, 120])
def test_steps_of_few_rows_and_of_many_are_made_alike(rows):
    """Several steps at a time, and a step in parts."""
    a_recipe = resized_recipe(rows=rows, images=600)
    images = np.random.default_rng(4).integers(0, 256, (600, 12, 16, 3), dtype=np.uint8)
    labels = np.zeros(600, dtype=np.int64)
    with closing(ResidentTraining(images, labels, TABLE, a_recipe, 5, CPU)) as batches:
        *_, last = enumerate(batches.epoch(1))
        step, batch = last
        plan = as_tensors(draw_step_plan(a_recipe, 5, 1, step))
        arrays = (torch.from_numpy(array) for array in (images, labels, TABLE))
        assert_same_batch(batch, assemble(*arrays, plan, 0, torch.float32))


@pytest.mark.parametrize(("members", "msda"), CASES)
def test_images_that_were_picked_out_for_a_step_are_as_good_as_all(members, msda):
    """What DALI delivers: an image a sample, and partners where they are mixed in."""
    a_recipe = resized_recipe(members, msda)
    plan, pixels = draw_step_plan(a_recipe, 5, 1, 0), Pixels(TABLE, a_recipe, CPU, torch.float32)
    samples = list_samples(plan, 0)
    assert len(samples.start) == 12 * members + len(samples.mixed) and not samples.start[:, 1:].any()
    picked = torch.from_numpy(IMAGES[samples.start[:, 0]])
    there = replace(plan, index=places_of(samples, plan))
    expected, found = torch.full((2, 12, 12, 16, members * 3), torch.nan)
    pixels.by_numba(torch.from_numpy(IMAGES), plan, expected, 0, 12)
    pixels.by_numba(picked, there, found, 0, 12)
    assert torch.equal(found, expected)
    assert torch.equal(pixels.by_torch(picked, as_tensors(there)), expected)


def test_the_ranks_batches_are_the_parts_of_one():
    whole = resized_recipe()
    batches = [training(a_recipe) for a_recipe in (whole, *(replace(whole, parts=3, part=part) for part in range(3)))]
    for step in zip(*(one.epoch(1) for one in batches), strict=True):
        assert torch.equal(step[0].images, torch.cat([one.images for one in step[1:]]))
    for one in batches:
        one.close()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_low_precision_batches_are_the_rounded_ones(dtype):
    with closing(training(resized_recipe())) as full, closing(training(resized_recipe(), dtype)) as low:
        expected = next(full.epoch(1)).images.to(dtype)
        assert torch.equal(next(low.epoch(1)).images, expected)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # torch.compile's own, which change with its releases
def test_the_compiled_twin_is_one_kernel_and_equals_the_eager_one():
    """What CUDA runs, here as the C++ that TorchInductor writes for a CPU."""
    plan = as_tensors(draw_step_plan(resized_recipe(), 5, 1, 0))
    taps = tuple(torch.from_numpy(resize_taps(side).copy()) for side in IMAGES.shape[1:3])
    arguments = (
        *(torch.from_numpy(IMAGES), torch.from_numpy(TABLE), plan.index, plan.crop, plan.flip),
        *(plan.pixel_box, plan.pixel_pattern, plan.pixel_values, taps, torch.float32),
    )
    torch._dynamo.reset()
    metrics.reset()
    with torch._inductor.config.patch(force_disable_caches=True):
        compiled = torch.compile(assemble_resized_pixels, dynamic=False, options=ONE_KERNEL)(*arguments)
    assert metrics.generated_kernel_count == 1
    # A compiler may contract a product and a sum into one rounding: within one unit in the last place.
    torch.testing.assert_close(compiled, assemble_resized_pixels(*arguments), rtol=2.4e-7, atol=1.2e-7)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize(("members", "msda"), CASES)
def test_cuda_equals_the_cpu(members, msda):
    a_recipe = resized_recipe(members, msda)
    on_gpu = ResidentTraining(IMAGES, LABELS, TABLE, a_recipe, 5, torch.device("cuda"))
    for gpu, cpu in zip(on_gpu.epoch(1), training(a_recipe).epoch(1), strict=True):
        torch.testing.assert_close(gpu.images.cpu(), cpu.images, rtol=2.4e-7, atol=1.2e-7)


@pytest.mark.slow
def test_training_with_them_runs_and_goes_on_bit_for_bit(tmp_path, digits, monkeypatch):
    crops = "augmentation: resized_crop, crop_scale: [0.3, 1.0], dataset: digits"
    text = CONFIG.replace("dataset: digits", crops).replace("epochs: 4", "epochs: 2")
    for name in ("whole", "stopped"):
        (tmp_path / name).mkdir()
    whole, stopped = Lab(tmp_path / "whole", digits, text), Lab(tmp_path / "stopped", digits, text)
    whole.train()
    whole_epoch = ResidentTraining.epoch

    def interrupted(self, epoch, first_step=0):
        for number, batch in enumerate(whole_epoch(self, epoch, first_step), start=first_step):
            if epoch == 2 and number == 5:
                os.kill(os.getpid(), signal.SIGTERM)
            yield batch

    with monkeypatch.context() as patch:
        patch.setattr(ResidentTraining, "epoch", interrupted)
        with pytest.raises(Stopped, match="in epoch 2, after step 6"):
            stopped.train()
    stopped.train()
    assert "continuing" in stopped.printed.getvalue()
    assert_same_tensors(stopped.checkpoint(), whole.checkpoint())
