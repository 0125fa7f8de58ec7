"""The kernels that make batches: the readable torch twin, numba's, and the obvious way with plain slicing."""

from typing import get_args

import numpy as np
import pytest
import torch
from recipes import small_recipe as recipe
from small_dataset import assert_same_batch
from torch._inductor import metrics

from mixmo_fast.mixing.plan import StepPlan, draw_step_plan
from mixmo_fast.mixing.recipe import MsdaMethod, Recipe
from pipelines.assembly import kernels
from pipelines.assembly.assemble import ONE_KERNEL, assemble, assemble_pixels, normalisation_table
from pipelines.plans import pack, steps_per_block, unpack
from pipelines.resident import ResidentEvaluation, ResidentTraining

MEAN, STD = (0.49, 0.48, 0.45), (0.2023, 0.1994, 0.201)
CPU = torch.device("cpu")
IMAGES = np.random.default_rng(0).integers(0, 256, (60, 12, 16, 3), dtype=np.uint8)
LABELS = np.random.default_rng(1).integers(0, 10, 60)
TABLE = normalisation_table(MEAN, STD)


def training(a_recipe: Recipe, seed: int = 5) -> ResidentTraining:
    return ResidentTraining(IMAGES, LABELS, TABLE, a_recipe, seed, CPU)


def normalised(pixels: np.ndarray) -> np.ndarray:
    """As torchvision does it, in float32 throughout."""
    return (pixels.astype(np.float32) / np.float32(255) - np.float32(MEAN)) / np.float32(STD)


def as_tensors(plan: StepPlan) -> StepPlan:
    return unpack(pack(plan), plan)


def obvious_batch(plan: StepPlan, padding: int) -> np.ndarray:
    """Pad, crop, flip, normalise, mix: one image after the other. (B, M * C, H, W) float32."""
    _, height, width, _ = IMAGES.shape
    rows = []
    for row in range(len(plan.index)):
        members = []
        for member in range(plan.index.shape[1]):
            pair = []
            for which in (0, 1):
                image = IMAGES[plan.index[row, member, which]]
                padded = np.pad(image, ((padding, padding), (padding, padding), (0, 0)))
                y, x = plan.offset[row, member, which]
                crop = padded[y : y + height, x : x + width]
                if plan.flip[row, member, which]:
                    crop = crop[:, ::-1]
                pair.append(normalised(crop))
            y0, y1, x0, x1 = plan.pixel_box[row, member]
            inside = np.zeros((height, width, 1), np.float32)
            inside[y0:y1, x0:x1] = 1
            if plan.pixel_pattern.shape[2]:
                inside = (plan.pixel_pattern[row, member] / np.float32(128)).transpose(1, 2, 0)
            values = plan.pixel_values[row, member]
            mask = inside * values[0] + (1 - inside) * values[1]
            members.append((mask * pair[0] + (1 - mask) * pair[1]).transpose(2, 0, 1))
        rows.append(np.concatenate(members))
    return np.stack(rows)


METHODS = (None, *get_args(MsdaMethod))
CASES = [(members, msda) for members in (1, 2, 3, 4) for msda in METHODS]


@pytest.mark.parametrize(("members", "msda"), CASES)
def test_the_resident_pipeline_equals_its_readable_twin_bit_for_bit(members, msda):
    a_recipe = recipe(members, msda)
    for step, batch in enumerate(training(a_recipe).epoch(2)):
        plan = as_tensors(draw_step_plan(a_recipe, 5, 2, step))
        twin = assemble(
            torch.from_numpy(IMAGES), torch.from_numpy(LABELS), torch.from_numpy(TABLE), plan, 3, torch.float32
        )
        assert_same_batch(batch, twin, step)


@pytest.mark.parametrize(("members", "msda"), CASES)
def test_the_readable_twin_does_what_slicing_does(members, msda):
    plan = draw_step_plan(recipe(members, msda), 5, 1, 3)
    twin = assemble(
        torch.from_numpy(IMAGES),
        torch.from_numpy(LABELS),
        torch.from_numpy(TABLE),
        as_tensors(plan),
        3,
        torch.float32,
    )
    np.testing.assert_array_equal(twin.images.numpy(), obvious_batch(plan, 3))
    np.testing.assert_array_equal(twin.labels.numpy(), LABELS[plan.index])


@pytest.mark.parametrize("padding", [0, 3])
def test_padding_is_black_before_normalisation(padding):
    batch = next(training(recipe(1, None, crop_padding=padding)).epoch(1))
    black = normalised(np.zeros(3, np.uint8))
    border = (batch.images.permute(0, 2, 3, 1).numpy() == black).all(axis=-1).any()
    assert border == (padding > 0)


def test_blocks_of_steps_make_no_difference():
    a_recipe = recipe(2, "cutmix", rows=2)
    assert a_recipe.steps_per_epoch > steps_per_block(2)
    images = [batch.images.clone() for batch in training(a_recipe).epoch(1)]
    assert len(images) == a_recipe.steps_per_epoch
    step = steps_per_block(2) + 1
    np.testing.assert_array_equal(images[step].numpy(), obvious_batch(draw_step_plan(a_recipe, 5, 1, step), 3))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_low_precision_batches_are_the_rounded_float32_ones(dtype):
    a_recipe = recipe(2, "mixup")
    full = next(training(a_recipe).epoch(1)).images
    low = next(ResidentTraining(IMAGES, LABELS, TABLE, a_recipe, 5, CPU, dtype).epoch(1)).images
    assert torch.equal(low, full.to(dtype))


def test_evaluation_shows_every_image_once_normalised_only():
    batches = list(ResidentEvaluation(IMAGES, LABELS, TABLE, 25, CPU))
    assert [len(images) for images, _ in batches] == [25, 25, 10]
    images = torch.cat([images for images, _ in batches]).permute(0, 2, 3, 1).numpy()
    np.testing.assert_array_equal(images, normalised(IMAGES))
    np.testing.assert_array_equal(torch.cat([labels for _, labels in batches]).numpy(), LABELS)


def test_kernels_are_compiled_where_no_machine_code_can_be_kept(monkeypatch):
    """A read-only installation of a user without a home: numba finds no folder for its cache."""
    njit = kernels.numba.njit

    def no_cache(*arguments, cache=False, **options):
        if cache:
            raise RuntimeError("cannot cache function: no locator available")
        return njit(*arguments, **options)

    monkeypatch.setattr(kernels.numba, "njit", no_cache)
    out = np.empty((2, 12, 48), dtype=np.float32)
    kernels.compiled(kernels.normalise_rows.py_func)(IMAGES[:2].reshape(2, 12, 48), TABLE.reshape(-1), out)
    np.testing.assert_array_equal(out.reshape(2, 12, 16, 3), normalised(IMAGES[:2]))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # torch.compile's own, which change with its releases
@pytest.mark.parametrize("msda", ["cutmix", "channel"])  # a box and a pattern
def test_the_compiled_twin_is_one_kernel_and_equals_the_eager_one(msda):
    """What CUDA runs, here as the C++ that TorchInductor writes for a CPU."""
    plan = as_tensors(draw_step_plan(recipe(2, msda), 5, 1, 0))
    arguments = (
        *(torch.from_numpy(IMAGES), torch.from_numpy(TABLE), plan.index, plan.offset, plan.flip),
        *(plan.pixel_box, plan.pixel_pattern, plan.pixel_values, 3, torch.float32),
    )
    torch._dynamo.reset()
    metrics.reset()
    with torch._inductor.config.patch(force_disable_caches=True):
        compiled = torch.compile(assemble_pixels, dynamic=False, options=ONE_KERNEL)(*arguments)
    assert metrics.generated_kernel_count == 1
    # A compiler may contract a product and a sum into one rounding: within one unit in the last place.
    torch.testing.assert_close(compiled, assemble_pixels(*arguments), rtol=2.4e-7, atol=1.2e-7)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize(("members", "msda"), CASES)
def test_cuda_equals_the_cpu(members, msda):
    a_recipe = recipe(members, msda)
    on_gpu = ResidentTraining(IMAGES, LABELS, TABLE, a_recipe, 5, torch.device("cuda"))
    for gpu, cpu in zip(on_gpu.epoch(1), training(a_recipe).epoch(1), strict=True):
        torch.testing.assert_close(gpu.images.cpu(), cpu.images, rtol=2.4e-7, atol=1.2e-7)
        assert torch.equal(gpu.labels.cpu(), cpu.labels)
