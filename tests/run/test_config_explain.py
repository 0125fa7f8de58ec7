"""What is told about a configuration: every number is the one that the code trains with, and nothing else is told."""

import re

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from PIL import Image
from places import TESTS

from mixmo_fast.config.load import check_config
from mixmo_fast.config.paper import paper_config, render_paper_yaml
from mixmo_fast.config.schema import Config
from mixmo_fast.errors import ConfigError, DataError
from mixmo_fast.mixing import ratios
from mixmo_fast.mixing.augmix import Operation
from mixmo_fast.mixing.plan import draw_plan_block
from mixmo_fast.run import build, explain_augmix
from mixmo_fast.run.configs import explain_config
from mixmo_fast.run.explain import DataFacts, Passage, explain
from mixmo_fast.training.schedule import learning_rate
from pipelines.assembly.augmix_pillow import apply_operation
from pipelines.datasets.catalog import DATASETS

OTHERS = (
    *("cow", "noise", "patchuphard", "patchupsoft"),
    *("stackhorizontal", "stackvertical", "channel", "stackchannel"),
)
BEST = "exp_cifar100_wrn2810-2_cutmixmo-p5_msdacutmix_bar4"


def facts_of(name: str) -> DataFacts:
    info = DATASETS[name]
    return DataFacts(**{key: getattr(info, key) for key in DataFacts.__dataclass_fields__})


def told(config: Config) -> dict[str, str]:
    """Heading -> text."""
    passages = explain(config, facts_of(config.data.dataset))
    assert len({passage.heading for passage in passages}) == len(passages)
    return {passage.heading: passage.text for passage in passages}


def changed(name: str, **sections) -> Config:
    """A run's configuration with some keys of some sections changed."""
    tree = paper_config(name).model_dump()
    for section, values in sections.items():
        tree[section] = {**tree[section], **values} if values is not None else None
    return check_config(tree, "test")


def number(low: float, high: float, **edges: bool) -> st.SearchStrategy[float]:
    return st.floats(low, high, allow_nan=False, **edges)


RESIZED_CROPS = [
    {"augmentation": "resized_crop"},
    {"augmentation": "resized_crop", "crop_scale": [0.3, 0.3], "crop_ratio": [2, 2]},
]


@st.composite
def configs(draw) -> Config:
    """Any configuration of a known data set, with every switch of the science."""
    members = draw(st.integers(1, 5))
    repetitions = draw(st.integers(1, 5))
    wide = draw(st.booleans())
    momentum = draw(st.sampled_from([0.0, 0.9]))
    above_zero = number(0, 1000, exclude_min=True)
    probability = st.sampled_from([0.0, 1.0]) | number(0, 1)
    tree = {
        "data": {
            "dataset": draw(st.sampled_from(sorted(DATASETS))),
            **draw(
                st.fixed_dictionaries(
                    {
                        "augmentation": st.sampled_from(["standard", "augmix"]),
                        "crop_padding": st.sampled_from([None, 0, 3]),
                    }
                )
                | st.sampled_from(RESIZED_CROPS)
            ),
            "flip": draw(st.sampled_from([None, True, False])),
            "holdout": draw(st.sampled_from([0.0, 0.1])),
        },
        "network": {
            "kind": "wide_resnet" if wide else "preact_resnet",
            "depth": draw(st.sampled_from([10, 28])) if wide else 18,
            "width": draw(st.integers(1, 10)),
            "members": members,
        },
        "batch": {
            "rows": repetitions * draw(st.integers(1, 300)),
            "repetitions": repetitions,
            "input_repetition": draw(probability),
        },
        "optimizer": {
            "lr": draw(above_zero),
            "momentum": momentum,
            "nesterov": momentum > 0 and draw(st.booleans()),
            "weight_decay": draw(st.sampled_from([0.0, 6e-4]) | number(0, 1000)),
            "lr_scaling": draw(st.sampled_from(["none", "linear"])),
            "lr_rows": draw(st.none() | st.integers(1, 1000)),
        },
        "schedule": {
            "epochs": draw(st.integers(1, 5) | st.integers(1, 1000)),
            "warmup_steps": draw(st.integers(0, 3) | st.integers(0, 10**6)),
            "milestones": draw(st.dictionaries(st.integers(1, 1500), above_zero, max_size=4)),
        },
        "evaluation": {"every_epochs": draw(st.integers(1, 3) | st.integers(1, 1000))},
        "checkpoint": {"every_epochs": draw(st.integers(0, 40))},
        "seed": draw(st.integers(0, 2**63 - 1)),
    }
    if members > 1:
        tree["mixing"] = {
            "method": draw(st.sampled_from(["linear", "patch", *OTHERS])),
            "prob": draw(probability),
            "alpha": draw(st.sampled_from([0.0, 2.0]) | number(0.001, 1000)),
            "weight_root": draw(st.sampled_from([1.0, 3.0]) | number(0.001, 1000)),
            "decay_from": draw(st.sampled_from([1.0, 11 / 12]) | number(0, 1, exclude_min=True)),
        }
        if tree["mixing"]["prob"] < 1 or tree["mixing"]["decay_from"] < 1:
            tree["mixing"]["replacement"] = draw(st.sampled_from(["linear", "linear", "patch", *OTHERS]))
    if draw(st.booleans()):
        tree["msda"] = {
            "method": draw(st.sampled_from(["mixup", "cutmix", *OTHERS])),
            "prob": draw(probability),
            "beta": draw(st.sampled_from([1.0, 0.5, 0.0])),
        }
    config = check_config(tree, "test")
    assume(config.steps_per_epoch(DATASETS[config.data.dataset].train_images) >= 1)
    return config


def words_about(config: Config) -> dict[str, bool]:
    """Patterns that an explanation has exactly where the configuration has what they mean."""
    mixing, msda = config.mixing, config.msda
    has_msda = msda is not None and msda.prob > 0
    masks = set(mixing.used) - {"linear"} if mixing is not None else set()
    has_method = bool(masks)
    is_drawn = has_method and mixing.prob > 0 and mixing.method != mixing.replacement
    masks |= {msda.method} if has_msda else set()
    has_ratios = mixing is not None and (mixing.alpha > 0 or has_method)
    pad = facts_of(config.data.dataset).crop_padding if config.data.crop_padding is None else config.data.crop_padding
    resized = config.data.augmentation == "resized_crop"
    return {
        r"partner": has_msda,
        r"\blam\b|Pixels become mask": has_msda,
        r"swap|mask_m its mask": has_msda and mixing is not None,
        r"member|kappa|encoder|ensemble": mixing is not None,
        r"Dirichlet law": mixing is not None and mixing.alpha > 0 and config.network.members > 2,
        r"w_m = M": has_ratios,
        r"every weight w_m is 1": mixing is not None and not has_ratios,
        r"One draw a step": is_drawn,
        r"All steps are mixed by": has_method and not is_drawn,
        r"Linear mixing: ": mixing is not None
        and ("linear" in mixing.used or (is_drawn and mixing.replacement == "linear")),
        r"lam = 1/2": has_msda and msda.beta == 0,
        r"inside a box": bool(masks & {"patch", "cutmix"}),
        r"CowMask": "cow" in masks,
        r"blocks of 7x7": bool(masks & {"patchuphard", "patchupsoft"}),
        r"by a fair coin": any(mask.startswith("stack") for mask in masks),
        r"repeat|\bb =": config.batch.repetitions > 1,
        r"[Mm]omentum \d": config.optimizer.momentum > 0,
        r"Nesterov": config.optimizer.nesterov,
        r"coupled": config.optimizer.weight_decay > 0,
        r"no weight decay": config.optimizer.weight_decay == 0,
        r"lr_scaling": config.optimizer.lr_scaling == "linear",
        r"Warm-up": config.schedule.warmup_steps > 1,
        r"Milestones:": any(epoch <= config.schedule.epochs for epoch in config.schedule.milestones),
        r"ends before the milestone": any(epoch > config.schedule.epochs for epoch in config.schedule.milestones),
        r"AugMix|chain": config.data.augmentation == "augmix",
        r"Crop:|padding": pad > 0 and not resized,
        r"[Rr]esized crop|stretched": resized,
        r"held out": int(DATASETS[config.data.dataset].train_images * config.data.holdout) > 0,
        r"flatters": config.evaluation.every_epochs < config.schedule.epochs,
        r"one to keep": config.checkpoint.every_epochs > 0,
    }


@settings(max_examples=150, deadline=None)
@given(configs())
def test_what_is_configured_is_told_and_nothing_else(config):
    text = "\n".join(f"{heading}\n{words}" for heading, words in told(config).items())
    for pattern, expected in words_about(config).items():
        assert bool(re.search(pattern, text)) == expected, pattern
    assert not re.search(r"None|nan\b|inf\b|\{|\}|\n\n", text)


@settings(max_examples=50, deadline=None)
@given(configs())
def test_steps_and_rows_are_those_of_the_plan(config):
    recipe = build.make_recipe(config, DATASETS[config.data.dataset])
    text = told(config)["An epoch and a step"]
    steps, epochs, rows = recipe.steps_per_epoch, config.schedule.epochs, config.batch.rows
    assert f" = {steps:,} steps" in text
    assert f"N = {recipe.trained_images:,} images" in text
    assert f"{epochs * steps:,} steps, and {epochs * steps * rows:,} rows in all" in text
    distinct = rows // config.batch.repetitions
    left = re.search(r"The last ([\d,]+) of that order", text)
    assert recipe.trained_images == steps * distinct + (int(left[1].replace(",", "")) if left else 0)


@settings(max_examples=50, deadline=None)
@given(configs())
def test_the_table_of_rates_holds_the_rates_that_training_uses(config):
    steps = build.make_recipe(config, DATASETS[config.data.dataset]).steps_per_epoch
    text = told(config)["Learning rate"]
    table = re.findall(r"^ +([\d,]+) +([\d,]+)  (\S+) +(\S.*)$", text, re.MULTILINE)
    assert table[0][:2] == ("1", "1") and "last step" in table[-1][3]
    moments = [(int(epoch.replace(",", "")), int(step.replace(",", ""))) for epoch, step, *_ in table]
    assert moments == sorted(set(moments)) and moments[-1] == (config.schedule.epochs, steps)
    for (epoch, step), (_, _, rate, _) in zip(moments, table, strict=True):
        assert float(rate) == pytest.approx(learning_rate(config, steps, epoch, step - 1), rel=1e-5, abs=1e-300)
    # Between two of its lines the rate rises in the warm-up, and else does not move.
    coming = {(epoch, 1) for epoch in config.schedule.milestones if epoch <= config.schedule.epochs}
    assert coming <= set(moments)


@settings(max_examples=50, deadline=None)
@given(configs())
def test_the_probability_of_a_method_is_the_one_that_is_drawn_with(config):
    assume(config.mixing is not None)
    mixing, epochs = config.mixing, config.schedule.epochs
    text = told(config)["Mixing of the members' features"]
    stated = re.search(r"a share of (\S+) of all steps", text)
    if stated:
        every = [ratios.patch_probability(mixing.prob, mixing.decay_from, e, epochs) for e in range(1, epochs + 1)]
        assert float(stated[1]) == pytest.approx(np.mean(every), rel=1e-3, abs=1e-300)
        full = re.search(r"up to epoch ([\d,]+)", text)
        last_full = sum(value >= mixing.prob * (1 - 1e-9) for value in every)
        assert int(full[1].replace(",", "")) == last_full if full else last_full == 0


def test_the_papers_best_run_in_its_own_numbers():
    text = "\n".join(told(paper_config(BEST)).values())
    for fact in (
        "N * b = 200,000 rows",
        "B / b = 16 distinct images, 4 times each",
        "3,125 steps",
        "937,500 steps, and 60,000,000 rows in all. A row shows 2 images, so the members are shown 120,000,000",
        "(2 * 4 + 1)^2 = 81 places",
        "p = 0.5 up to epoch 275",
        "0.26 in epoch 287, 0 in epoch 300",
        "For kappa_0 = 0.5 it has 22x22 pixels, an area of 0.4727",
        # 0.7^(1/3) = 0.887904, 0.3^(1/3) = 0.669433, their sum 1.557337
        "For kappas of 0.7 and 0.3 they are 1.14 and 0.8597",
        "exactly the gradient of 0.0003 * (sum of all w^2)",
        "after 3,128 steps, 1.001 times an epoch's",
    ):
        assert fact in text, fact


def test_the_learning_rate_of_the_papers_best_run_is_a_table_of_six_lines():
    table = told(paper_config(BEST))["Learning rate"].splitlines()[-7:]
    assert [re.sub(" +", " ", line).strip() for line in table] == [
        "epoch its step rate",
        "1 1 3.99616e-06 first step",
        "2 3 0.0125 warm-up complete",
        "101 1 0.00125 milestone, times 0.1",
        "201 1 0.000125 milestone, times 0.1",
        "226 1 1.25e-05 milestone, times 0.1",
        "300 3,125 1.25e-05 last step",
    ]


@pytest.mark.parametrize(("rho", "common"), [(0.0, None), (0.01, None), (0.25, 16), (0.999, 64), (1.0, 64)])
def test_common_rows_are_counted_as_the_plan_draws_them(rho, common):
    config = changed(BEST, batch={"input_repetition": rho}, mixing={"method": "linear"}, msda=None)
    index = draw_plan_block(build.make_recipe(config, DATASETS["cifar100"]), 0, 1, 0, 50).index[..., 0]
    # A row where the members see one image in each of 50 steps is no coincidence.
    assert (index[..., 0] == index[..., 1]).all(axis=0).sum() == (common or 0)
    text = told(config)["What each member sees"]
    if common is None:
        assert "same image" not in text
    else:
        assert f"{common} rows of a step" in text if common < 64 else "in each of the 64 rows" in text


@settings(max_examples=30, deadline=None)
@given(st.integers(20, 300), st.integers(20, 300))
def test_the_numbers_of_augmix_are_those_that_images_are_changed_by(height, width):
    config = changed(BEST, data={"augmentation": "augmix"})
    text = "\n".join(explain_augmix.describe_augmix(config, (height, width)))
    named = re.search(r"uniformly from 10: (.*)\.", text)[1].split(", ")
    assert [name.replace(" ", "_").upper() for name in named] == [operation.name for operation in Operation]
    ramp = Image.fromarray(np.arange(256, dtype=np.uint8)[None])
    solarized = np.asarray(apply_operation(ramp, Operation.SOLARIZE, 1))[0]
    threshold = re.search(r"solarize from a grey level of (\d+) on", text)[1]
    assert int(threshold) == np.flatnonzero(solarized != np.arange(256))[0]
    posterized = np.asarray(apply_operation(ramp, Operation.POSTERIZE, 1))
    assert f"to {np.log2(len(np.unique(posterized))):.0f} bits" in text
    y, x = (Image.fromarray(axis.astype(np.int32) + 1) for axis in np.indices((height, width)))
    moved = re.search(r"translate by (\S+) pixels(?: across or (\S+) down)?", text)
    across, down = float(moved[1]), float(moved[2] or moved[1])
    column, row = width // 2, height // 2
    # A pixel comes from the one that its centre falls into.
    assert np.asarray(apply_operation(x, Operation.TRANSLATE_X, 1))[0, column] == int(column + 0.5 + across) + 1
    assert np.asarray(apply_operation(y, Operation.TRANSLATE_Y, 1))[row, 0] == int(row + 0.5 + down) + 1
    for image, operation in ((x, Operation.ROTATE), (x, Operation.SHEAR_X), (y, Operation.SHEAR_Y)):
        expected = {
            Operation.ROTATE: image.rotate(float(re.search(r"rotate by (\S+) degrees", text)[1])),
            Operation.SHEAR_X: image.transform(image.size, 0, (1, sheared(text), 0, 0, 1, 0)),
            Operation.SHEAR_Y: image.transform(image.size, 0, (1, 0, 0, sheared(text), 1, 0)),
        }[operation]
        assert np.array_equal(np.asarray(apply_operation(image, operation, 1)), np.asarray(expected))


def sheared(text: str) -> float:
    return float(re.search(r"shear by ([\d.]+),", text)[1])


@pytest.mark.parametrize(
    ("method", "said"),
    [
        *(("cow", "sigma is log-uniform on 4..16"), ("noise", "shifted so that its mean is kappa_0")),
        *(("patchuphard", "around random pixels, 0 elsewhere"), ("patchupsoft", "random pixels, kappa_0 elsewhere")),
        *(("stackhorizontal", "first int(32 * kappa_0) rows"), ("stackvertical", "first int(32 * kappa_0) columns")),
        *(("channel", "each of the 16 channels, 1 with prob"), ("stackchannel", "first int(16 * kappa_0) channels")),
    ],
)
def test_every_other_mask_is_described_as_it_is_drawn(method, said):
    """As `tests/mixing/test_patterns.py` finds them."""
    config = changed(BEST, mixing={"method": method, "prob": 1.0, "decay_from": 1.0})
    assert said in told(config)["Mixing of the members' features"]


def test_images_too_few_for_a_step_are_refused():
    config = changed(BEST, data={"dataset": "digits"}, batch={"rows": 8000})
    with pytest.raises(ValueError, match="1438 images do not fill one step of 8000 rows"):
        explain(config, facts_of("digits"))


def test_the_numbers_of_resized_crops_are_those_that_boxes_are_drawn_by():
    law = {"augmentation": "resized_crop", "crop_scale": [0.25, 0.5], "crop_ratio": [2, 3]}
    text = told(changed(BEST, data=law))["Resized crops and flips"]
    assert "32x32 = 1,024 pixels, uniform on 0.25..0.5, so 256 to 512" in text
    assert "uniform on log 2..log 3" in text and "the 16x32 pixels in the middle" in text
    recipe = build.make_recipe(changed(BEST, data=law), DATASETS["cifar100"])
    tall, wide = draw_plan_block(recipe, 1, 1, 0, 32).crop[..., 2:].reshape(-1, 2).T
    assert 240 <= (tall * wide).min() <= 270 and 480 <= (tall * wide).max() <= 530
    assert 1.9 < (wide / tall).min() < 2.1 and 2.8 < (wide / tall).max() < 3.2


def test_a_file_is_explained_with_its_data_sets_facts_and_overrides(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text(render_paper_yaml(BEST))
    assert explain_config(path) == explain(paper_config(BEST), facts_of("cifar100"))
    passages = explain_config(path, ["data.dataset=digits", "msda=null"])
    assert isinstance(passages[0], Passage) and "16x16 pixels in 10 classes" in passages[0].text
    assert "Mixing of the input images" not in [passage.heading for passage in passages]
    with pytest.raises(ConfigError, match=r"run\.yaml: batch\.rows: 8000 rows are more than 1438 training images"):
        explain_config(path, ["data.dataset=digits", "batch.rows=8000"])
    with pytest.raises(DataError, match="unknown data set 'imagenet'"):
        explain_config(path, ["data.dataset=imagenet"])


def test_a_file_of_the_authors_is_explained_and_announced():
    said = []
    golden = TESTS / "golden" / "reference_wrn10-1_cutmixmo.yaml"
    passages = explain_config(golden, notify=said.append)
    assert len(said) == 1 and "translated" in said[0]
    assert "depth 10 and width 1" in passages[0].text
