"""AugMix: what is drawn, what it makes of pixels, and that nothing but seed, epoch, step and image decides it."""

import itertools
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lab import CONFIG, Lab, assert_same_tensors
from PIL import Image, ImageOps
from scipy import stats
from test_plan import recipe

from mixmo_fast.mixing.augmix import NO_OPERATION, SEVERITY, AugmixPlan, Operation, draw_augmix
from mixmo_fast.mixing.philox import words_at
from mixmo_fast.mixing.plan import draw_plan_block
from pipelines.assemble import normalisation_table
from pipelines.augmix import apply_augmix, apply_by_torch, fixed_point
from pipelines.augmix_steps import draw_step_images, each_step, transform_by_torch
from pipelines.plans import PlanFeed
from pipelines.resident import ResidentTraining

CPU = torch.device("cpu")
MANY = draw_augmix(1, 1, 0, np.arange(20_000, dtype=np.int32))
AFFINE = [name for name in Operation if name.name.startswith(("ROTATE", "SHEAR", "TRANSLATE"))]


def photographs(count: int, height: int = 32, width: int = 32) -> torch.Tensor:
    """Smooth images in few colours, dark ones among them, and the last all noise: uint8 (n, H, W, 3)."""
    random = np.random.default_rng(count)
    coarse = Image.fromarray(random.integers(0, 256, (8 * count, 8, 3), dtype=np.uint8))
    smooth = np.asarray(coarse.resize((width, height * count), Image.Resampling.BICUBIC)).reshape(
        count, height, width, 3
    )
    images = smooth // random.integers(1, 6, (count, 1, 1, 1), dtype=np.uint8)
    images[-1] = random.integers(0, 256, images[-1].shape)
    return torch.from_numpy(images)


def only(operation: Operation | np.ndarray, levels: np.ndarray, signs: np.ndarray) -> AugmixPlan:
    """A plan of one operation for each image, whose result is not mixed with anything."""
    count = len(levels)
    plan = AugmixPlan(
        operation=np.full((count, 3, 3), NO_OPERATION, dtype=np.int8),
        level=np.ones((count, 3, 3)),
        sign=np.ones((count, 3, 3), dtype=np.int8),
        chain_weight=np.tile((0.0, 1.0, 0.0), (count, 1)),
        mixed=np.ones(count),
    )
    plan.operation[:, 1, 0], plan.level[:, 1, 0], plan.sign[:, 1, 0] = operation, levels, signs
    return plan


def by_pillow(image: Image.Image, operation: Operation, level: float, sign: int) -> Image.Image:
    """The published operations, as Pillow has them."""
    width, height = image.size
    shear = sign * level * 0.3 / 10
    across, down = (sign * int(level * (side / 3) / 10) for side in (width, height))
    warp = {
        Operation.SHEAR_X: (1, shear, 0, 0, 1, 0),
        Operation.SHEAR_Y: (1, 0, 0, shear, 1, 0),
        Operation.TRANSLATE_X: (1, 0, across, 0, 1, 0),
        Operation.TRANSLATE_Y: (1, 0, 0, 0, 1, down),
    }
    if operation in warp:
        return image.transform(image.size, Image.Transform.AFFINE, warp[operation], Image.Resampling.BILINEAR)
    return {
        Operation.IDENTITY: lambda: image,
        Operation.EQUALIZE: lambda: ImageOps.equalize(image),
        Operation.POSTERIZE: lambda: ImageOps.posterize(image, 4 - int(level * 4 / 10)),
        Operation.ROTATE: lambda: image.rotate(sign * int(level * 30 / 10), Image.Resampling.BILINEAR),
        Operation.SOLARIZE: lambda: ImageOps.solarize(image, 256 - int(level * 256 / 10)),
        Operation.INVERT: lambda: ImageOps.invert(image),
    }[operation]()


@pytest.mark.parametrize("size", [(32, 32), (64, 64), (18, 24)])
@pytest.mark.parametrize("operation", Operation)
def test_an_operation_is_pillows(operation, size):
    images = photographs(60, *size)
    levels, signs = np.linspace(0.1, 9.9, 60), np.tile((1, -1), 30)  # beyond the severity, too
    found = apply_augmix(images, only(operation, levels, signs)).numpy()
    expected = np.stack(
        [
            np.asarray(by_pillow(Image.fromarray(image), operation, level, sign))
            for image, level, sign in zip(images.numpy(), levels.tolist(), signs.tolist(), strict=True)
        ]
    )
    # Pillow cuts off what is behind the point, here it is rounded.
    most = 1 if operation in AFFINE else 0
    difference = np.abs(found.astype(int) - expected)
    # A border pixel whose place is the image's very edge may be on either side of it.
    assert (difference > most).mean() <= (2e-4 if operation in AFFINE else 0)
    assert difference.mean() < 0.51 * most or not most
    if operation != Operation.IDENTITY:
        assert (found != images.numpy()).any(axis=(1, 2, 3)).mean() > 0.3


def test_a_flat_image_and_one_of_few_pixels_are_equalized_as_by_pillow():
    for image in (
        np.full((32, 32, 3), 7),
        np.full((2, 2, 3), 200),
        np.indices((16, 16)).sum(0)[..., None].repeat(3, 2),
    ):
        pixels = image.astype(np.uint8)
        found = apply_augmix(torch.from_numpy(pixels)[None], only(Operation.EQUALIZE, np.ones(1), np.ones(1)))
        assert np.array_equal(found[0].numpy(), np.asarray(ImageOps.equalize(Image.fromarray(pixels))))


def test_chains_are_followed_in_order_and_mixed_to_half_a_grey_level():
    images, plan = photographs(80), draw_augmix(9, 2, 3, np.arange(80, dtype=np.int32))
    expected = (1 - plan.mixed[:, None, None, None]) * images.numpy()
    for chain in range(3):
        state = images
        for turn in range(3):
            lasts = plan.operation[:, chain, turn] != NO_OPERATION
            operations = np.where(lasts, plan.operation[:, chain, turn], Operation.IDENTITY)
            one = only(operations, plan.level[:, chain, turn], plan.sign[:, chain, turn])
            state = apply_augmix(state, one)
        expected = expected + (plan.mixed * plan.chain_weight[:, chain])[:, None, None, None] * state.numpy()
    difference = np.abs(apply_augmix(images, plan).numpy() - expected)
    assert difference.max() < 0.51
    assert 0.2 < difference.mean() < 0.27  # rounded, not cut off


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**31), st.sampled_from([(8, 8), (32, 32), (5, 17), (64, 64)]), st.integers(1, 40))
def test_the_kernel_and_its_torch_twin_agree_to_the_last_bit(seed, size, count):
    images, plan = photographs(count, *size), draw_augmix(seed, 1, 0, np.arange(count, dtype=np.int32))
    twin = torch.empty_like(images)
    apply_by_torch(images, fixed_point(plan, *size), twin)
    assert torch.equal(apply_augmix(images, plan), twin)


def test_an_image_does_not_depend_on_those_beside_it(monkeypatch):
    images, plan = photographs(50), draw_augmix(4, 1, 7, np.arange(50, dtype=np.int32))
    transforms = fixed_point(plan, 32, 32)
    whole, twin = apply_augmix(images, plan), torch.empty_like(images)
    alone = [
        apply_augmix(images[i : i + 1], AugmixPlan(*(getattr(plan, f.name)[i : i + 1] for f in fields(plan))))
        for i in range(50)
    ]
    assert torch.equal(torch.cat(alone), whole)
    monkeypatch.setattr("pipelines.augmix._IMAGES_AT_ONCE", 7)
    apply_by_torch(images, transforms, twin)
    assert torch.equal(twin, whole)


def test_white_stays_white_where_nothing_is_moved_or_changed():
    plan = replace(MANY, operation=np.where(MANY.operation >= 0, Operation.IDENTITY, NO_OPERATION))
    weight = fixed_point(plan, 4, 4).weight
    assert (weight.sum(axis=1) == 2**16).all() and (weight >= 0).all()
    images = torch.full((len(plan), 4, 4, 3), 255, dtype=torch.uint8)
    assert torch.equal(apply_augmix(images, plan), images)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 2**64 - 1), min_size=4, max_size=4), st.integers(1, 40))
def test_words_at_a_place_are_numpys(numbers, count):
    first_key, second_key, second, third = numbers
    places = np.array([second, 0], dtype=np.uint64), np.array([third, 5], dtype=np.uint64)
    found = words_at((first_key, second_key), *places, count)
    for row, (two, three) in enumerate(zip(*places, strict=True)):
        key = np.array([first_key, second_key], dtype=np.uint64)
        philox = np.random.Philox(key=key, counter=np.array([0, two, three, 0], dtype=np.uint64))
        assert np.array_equal(found[row], philox.random_raw(count))


def test_depths_and_operations_are_uniform():
    depth = (MANY.operation != NO_OPERATION).sum(axis=2)
    assert stats.chisquare(np.bincount(depth.ravel(), minlength=4)[1:]).pvalue > 1e-3
    assert (depth >= 1).all()
    # From the depth on there is nothing, and before it no gap.
    assert ((MANY.operation != NO_OPERATION) == (np.arange(3) < depth[..., None])).all()
    # The depths of an image's chains have nothing to do with each other, nor an operation with its predecessor.
    assert stats.chi2_contingency(np.histogram2d(depth[:, 0], depth[:, 1], bins=3)[0]).pvalue > 1e-3
    full = MANY.operation[depth == 3]
    for turn in range(3):
        assert stats.chisquare(np.bincount(full[:, turn], minlength=10)).pvalue > 1e-3
    assert stats.chi2_contingency(np.histogram2d(full[:, 0], full[:, 1], bins=10)[0]).pvalue > 1e-3


def test_levels_signs_and_shares_are_distributed_as_published():
    level = stats.uniform(0.1, SEVERITY - 0.1)
    assert stats.kstest(MANY.level.ravel(), level.cdf).pvalue > 1e-3
    assert stats.binomtest(int((MANY.sign == 1).sum()), MANY.sign.size).pvalue > 1e-3
    assert set(np.unique(MANY.sign)) == {-1, 1}
    assert stats.kstest(MANY.mixed, "uniform").pvalue > 1e-3
    for chain in range(3):  # a component of Dirichlet(1, 1, 1)
        assert stats.kstest(MANY.chain_weight[:, chain], stats.beta(1, 2).cdf).pvalue > 1e-3
    np.testing.assert_allclose(MANY.chain_weight.sum(axis=1), 1, rtol=1e-12)
    pairs = (MANY.mixed, MANY.chain_weight[:, 0], MANY.level[:, 0, 0], MANY.level[:, 1, 0], MANY.level[:, 0, 1])
    for first, second in itertools.combinations(pairs, 2):
        assert stats.spearmanr(first, second).pvalue > 1e-3


def assert_same(first: AugmixPlan, second: AugmixPlan) -> None:
    for field in fields(AugmixPlan):
        np.testing.assert_array_equal(getattr(first, field.name), getattr(second, field.name))


def test_a_transform_depends_on_the_image_not_on_its_company():
    order = np.random.default_rng(0).permutation(500).astype(np.int32)
    whole, shuffled = draw_augmix(3, 2, 8, np.arange(500, dtype=np.int32)), draw_augmix(3, 2, 8, order)
    assert_same(AugmixPlan(*(getattr(whole, field.name)[order] for field in fields(AugmixPlan))), shuffled)
    steps = np.array([8, 9, 8])
    several = draw_augmix(3, 2, steps, np.array([4, 4, 400], dtype=np.int32))
    for place, (step, image) in enumerate(((8, 4), (9, 4), (8, 400))):
        one = draw_augmix(3, 2, step, np.array([image], dtype=np.int32))
        here = slice(place, place + 1)
        assert_same(AugmixPlan(*(getattr(several, field.name)[here] for field in fields(AugmixPlan))), one)


@pytest.mark.parametrize("change", [{"seed": 4}, {"epoch": 3}, {"step": 9}, {"images": np.arange(500, 1000)}])
def test_another_seed_epoch_step_or_image_is_another_transform(change):
    where = {"seed": 3, "epoch": 2, "step": 8, "images": np.arange(500, dtype=np.int32)}
    first, second = draw_augmix(**where), draw_augmix(**(where | change))
    assert (first.mixed != second.mixed).all()
    assert abs(stats.spearmanr(first.mixed, second.mixed).statistic) < 0.15


def test_an_occurrence_is_made_from_its_image_by_the_transform_of_the_step():
    index = draw_plan_block(recipe(), 5, 2, 10, 6).index
    block = draw_step_images(5, 2, 10, index, (32, 32))
    assert np.array_equal(block.source[block.place], index)  # for image and partner, in every row and member
    assert block.bounds[0] == 0 and block.bounds[-1] == len(block)
    for step in range(6):
        images = slice(block.bounds[step], block.bounds[step + 1])
        numbers = block.source[images]
        assert np.array_equal(numbers, np.unique(index[step]))  # each image once, so one transform a step
        expected = fixed_point(draw_augmix(5, 2, 10 + step, numbers), 32, 32)
        for found in (block.transforms.of(images), block.of(slice(step, step + 1)).transforms):
            for field in fields(found):
                assert np.array_equal(getattr(found, field.name), getattr(expected, field.name))
        part = block.of(slice(step, step + 1))
        assert np.array_equal(part.source[part.place], index[step : step + 1])


def test_what_cuda_does_for_some_steps_is_what_a_cpu_does():
    images, index = photographs(300), draw_plan_block(recipe(images=300), 5, 1, 0, 3).index
    steps = draw_step_images(5, 1, 0, index, (32, 32))
    threads = ThreadPoolExecutor(2)
    with closing(each_step(images.numpy(), steps, threads)) as one_by_one:
        expected = [made[place] for made, place in one_by_one]
    threads.shutdown()
    made, place = transform_by_torch(images, steps, most=len(steps) + 9)
    assert (len(made), place.dtype) == (len(steps) + 9, torch.int32)
    assert np.array_equal(made.numpy()[place.numpy()], np.stack(expected))
    assert len({image.tobytes() for image in made.numpy()[: len(steps)]}) > 0.9 * len(steps)


def test_ranks_that_share_a_step_transform_an_image_alike():
    one = recipe(augmix=True, images=400)
    seen: dict[int, bytes] = {}
    for part in range(2):
        mine = replace(one, parts=2, part=part)
        index = draw_plan_block(mine, 5, 1, 0, 1).index
        images = draw_step_images(5, 1, 0, index, one.image_size)
        for place, number in enumerate(images.source.tolist()):
            transform = b"".join(
                getattr(images.transforms, field.name)[place].tobytes() for field in fields(images.transforms)
            )
            assert seen.setdefault(number, transform) == transform
        assert len(images) <= mine.most_images_a_step
    assert seen.keys() == set(np.unique(draw_plan_block(one, 5, 1, 0, 1).index).tolist())


def test_plans_are_the_same_with_and_without_it():
    plain, augmixed = PlanFeed(recipe(), 5, CPU), PlanFeed(recipe(augmix=True), 5, CPU)
    with closing(plain), closing(augmixed):
        for first, second in itertools.islice(zip(plain.blocks(1), augmixed.blocks(1), strict=True), 2):
            assert first.augmix is None and second.augmix is not None
            for field in fields(first.host):
                assert np.array_equal(getattr(first.host, field.name), getattr(second.host, field.name))


@pytest.mark.parametrize("rows", [8, 64, 2400])
def test_a_step_is_made_of_transformed_images_whatever_its_size(rows):
    """Small steps are made several at a time, large ones in several pieces."""
    small = {"image_size": (8, 8), "map_size": (8, 8), "crop_padding": 0, "flip": False}
    a_recipe = recipe(augmix=True, images=2500, rows=rows, msda=None, **small)
    images = photographs(2500, 8, 8).numpy()
    table = np.tile(np.arange(256, dtype=np.float32), (3, 1))
    training = ResidentTraining(images, np.arange(2500), table, a_recipe, 5, CPU)
    with closing(training):
        for step, batch in enumerate(itertools.islice(training.epoch(1), 12)):
            numbers = batch.labels[:, :, 0].numpy()
            plan = draw_augmix(5, 1, step, numbers.ravel().astype(np.int32))
            expected = apply_augmix(torch.from_numpy(images[numbers.ravel()]), plan)
            found = batch.images.unflatten(1, (a_recipe.members, 3)).permute(0, 1, 3, 4, 2).flatten(0, 1)
            assert torch.equal(found, expected.float())


def test_an_epoch_that_is_given_up_leaves_nothing_running():
    a_recipe = recipe(augmix=True, images=2500)
    images = photographs(2500).numpy()
    table = normalisation_table((0.5,) * 3, (0.5,) * 3)
    training = ResidentTraining(images, np.zeros(2500, dtype=np.int64), table, a_recipe, 5, CPU)
    with closing(training):
        first = next(training.epoch(1)).images.clone()
        for _ in range(3):
            next(training.epoch(2))
        assert torch.equal(next(training.epoch(1)).images, first)


@pytest.mark.slow
def test_training_with_it_runs_and_goes_on_bit_for_bit(tmp_path, digits, monkeypatch):
    text = CONFIG.replace("dataset: digits", "dataset: digits, augmentation: augmix").replace("epochs: 4", "epochs: 2")
    whole, stopped, plain = (Lab(tmp_path / name, digits, text) for name in make_folders(tmp_path))
    whole.train()
    whole_epoch = ResidentTraining.epoch

    def interrupted(self, epoch):
        for number, batch in enumerate(whole_epoch(self, epoch)):
            if epoch == 2 and number == 9:
                raise KeyboardInterrupt
            yield batch

    with monkeypatch.context() as patch:
        patch.setattr(ResidentTraining, "epoch", interrupted)
        with pytest.raises(KeyboardInterrupt):
            stopped.train()
    stopped.train()
    assert "continuing" in stopped.printed.getvalue()
    assert_same_tensors(stopped.checkpoint(), whole.checkpoint())
    plain.train("data.augmentation=standard")
    first, second = (lab.checkpoint()["network"] for lab in (whole, plain))
    assert any(not torch.equal(first[name], second[name]) for name in first)


def make_folders(folder) -> tuple[str, ...]:
    names = ("whole", "stopped", "plain")
    for name in names:
        (folder / name).mkdir()
    return names


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_makes_the_bits_of_a_cpu_without_being_waited_for():
    images, plan = photographs(1500), draw_augmix(4, 1, 7, np.arange(1500, dtype=np.int32))
    on_gpu = images.cuda()
    apply_augmix(on_gpu, plan)
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        found = apply_augmix(on_gpu, plan)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert torch.equal(found.cpu(), apply_augmix(images, plan))
