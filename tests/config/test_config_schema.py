"""What the configuration's models accept and refuse, and that they cannot be changed."""

import math
import subprocess
import sys

import pytest
from pydantic import BaseModel, ValidationError

from mixmo_fast.config import schema
from mixmo_fast.config.schema import (
    BatchConfig,
    CheckpointConfig,
    Config,
    DataConfig,
    EvaluationConfig,
    MixingConfig,
    MsdaConfig,
    NetworkConfig,
    OptimizerConfig,
    ScheduleConfig,
    StepConfig,
)
from mixmo_fast.config.words import allowed_in_words, known_keys

SECTIONS = (
    (DataConfig, {"dataset": "cifar10"}),
    (NetworkConfig, {"kind": "wide_resnet", "depth": 28, "width": 10}),
    (MixingConfig, {"method": "patch"}),
    (MsdaConfig, {"method": "cutmix"}),
    (BatchConfig, {}),
    (OptimizerConfig, {"lr": 0.05, "weight_decay": 6e-4}),
    (ScheduleConfig, {"epochs": 300, "warmup_steps": 782}),
    (StepConfig, {}),
    (EvaluationConfig, {}),
    (CheckpointConfig, {}),
)
SMALLEST = {
    "data": {"dataset": "cifar10"},
    "network": {"kind": "wide_resnet", "depth": 28, "width": 10},
    "optimizer": {"lr": 0.05, "weight_decay": 6e-4},
    "schedule": {"epochs": 300, "warmup_steps": 782},
}


@pytest.mark.parametrize(("model", "values"), SECTIONS)
def test_every_section_refuses_an_unknown_key(model, values):
    model(**values)
    with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
        model(**values, learning_rate=0.1)


@pytest.mark.parametrize(("model", "values"), SECTIONS)
def test_no_section_can_be_changed(model, values):
    section = model(**values)
    name = next(iter(model.model_fields))
    with pytest.raises(ValidationError, match="frozen"):
        setattr(section, name, getattr(section, name))


@pytest.mark.parametrize(("model", "values"), SECTIONS)
def test_every_key_has_a_description_of_one_line(model, values):
    for name, field in model.model_fields.items():
        assert field.description, name
        assert "\n" not in field.description, name


@pytest.mark.parametrize(("model", "values"), SECTIONS)
def test_every_number_has_a_range_that_is_enforced(model, values):
    numbers = [name for name, field in model.model_fields.items() if field.annotation in (int, float, int | None)]
    for name in numbers:
        for outside in (-1, 10**15):
            with pytest.raises(ValidationError, match=name):
                model(**{**values, name: outside})


@pytest.mark.parametrize(("model", "values"), SECTIONS)
def test_every_number_refuses_text_truth_values_and_not_a_number(model, values):
    for name, field in model.model_fields.items():
        if field.annotation not in (int, float, int | None):
            continue
        for wrong in ("1", True, math.nan, math.inf):
            with pytest.raises(ValidationError, match=name):
                model(**{**values, name: wrong})


@pytest.mark.parametrize("seed", [-1, 2**63, 1.0, True, "1"])
def test_seed_outside_63_bits_or_of_another_type_is_refused(seed):
    with pytest.raises(ValidationError, match="seed"):
        Config.model_validate({**SMALLEST, "seed": seed})


@pytest.mark.parametrize(
    ("model", "values", "name", "accepted", "refused"),
    [
        (DataConfig, {"dataset": "a"}, "crop_padding", (None, 0, 64), (65,)),
        (NetworkConfig, SECTIONS[1][1], "width", (1, 32), (0, 33)),
        (NetworkConfig, SECTIONS[1][1], "members", (1, 16), (0, 17)),
        (MixingConfig, {"method": "patch"}, "prob", (0, 1), (1.001,)),
        (MixingConfig, {"method": "patch"}, "alpha", (0,), (-1e-9,)),
        (MixingConfig, {"method": "patch"}, "weight_root", (1e-3,), (0,)),
        (MixingConfig, {"method": "patch"}, "decay_from", (1, 1e-3), (0, 1.001)),
        (MsdaConfig, {"method": "mixup"}, "beta", (0, 1e-3), (-1e-9,)),
        (MsdaConfig, {"method": "mixup"}, "prob", (0, 1), (1.001,)),
        (BatchConfig, {}, "rows", (1,), (0,)),
        (BatchConfig, {}, "repetitions", (1, 64), (0,)),
        (BatchConfig, {}, "input_repetition", (0, 1), (1.001,)),
        (OptimizerConfig, SECTIONS[5][1], "lr", (1e-9,), (0,)),
        (OptimizerConfig, SECTIONS[5][1], "momentum", (0.999,), (1,)),
        (OptimizerConfig, SECTIONS[5][1], "weight_decay", (0,), (-1e-9,)),
        (ScheduleConfig, SECTIONS[6][1], "epochs", (1,), (0,)),
        (ScheduleConfig, SECTIONS[6][1], "warmup_steps", (0,), (-1,)),
        (EvaluationConfig, {}, "every_epochs", (1,), (0,)),
        (EvaluationConfig, {}, "rows", (1,), (0,)),
        (CheckpointConfig, {}, "every_epochs", (0,), (-1,)),
        (CheckpointConfig, {}, "every_minutes", (0.1, None), (0,)),
    ],
)
def test_the_edges_of_a_range_are_where_they_are_said_to_be(model, values, name, accepted, refused):
    for value in accepted:
        assert getattr(model(**{**values, name: value}), name) == value
    for value in refused:
        with pytest.raises(ValidationError, match=name):
            model(**{**values, name: value})


def test_an_int_is_fine_where_a_float_is_meant():
    assert MixingConfig(method="patch", weight_root=3).weight_root == 3.0
    assert isinstance(MixingConfig(method="patch", weight_root=3).weight_root, float)


@pytest.mark.parametrize("depth", [10, 16, 22, 28, 40])
def test_wide_resnet_takes_a_depth_of_6n_plus_4(depth):
    assert NetworkConfig(kind="wide_resnet", depth=depth, width=1).depth == depth


@pytest.mark.parametrize(
    ("kind", "depth"), [("wide_resnet", 4), ("wide_resnet", 18), ("wide_resnet", 27), ("preact_resnet", 28)]
)
def test_a_depth_that_the_kind_does_not_have_is_refused(kind, depth):
    with pytest.raises(ValidationError, match="depth"):
        NetworkConfig(kind=kind, depth=depth, width=1)


@pytest.mark.parametrize("name", ["CIFAR10", "", "1cifar", "../etc", "cifar 10", "cifar10\n", "a" * 65])
def test_a_dataset_name_that_could_not_be_a_folder_is_refused(name):
    with pytest.raises(ValidationError, match="dataset"):
        DataConfig(dataset=name)


@pytest.mark.parametrize(
    ("alias", "method"), [("mixup", "linear"), ("cutmix", "patch"), ("patchuphard2d", "patchuphard")]
)
def test_mixing_aliases_become_the_methods_own_names(alias, method):
    assert MixingConfig(method=alias) == MixingConfig(method=method)
    assert MixingConfig(method=alias).method == method


def test_msda_keeps_its_own_names():
    assert MsdaConfig(method="cutmix").method == "cutmix"
    assert MsdaConfig(method="patchuphard2d").method == "patchuphard"
    with pytest.raises(ValidationError, match="method"):
        MsdaConfig(method="patch")


@pytest.mark.parametrize(
    ("method", "prob"), [("linear", 1.0), ("mixup", 1.0), ("patch", 0.5), ("cutmix", 0.5), ("cow", 0.5)]
)
def test_mixing_prob_defaults_to_the_published_value_of_the_method(method, prob):
    assert MixingConfig(method=method).prob == prob
    assert MixingConfig(method=method, prob=0.25).prob == 0.25


@pytest.mark.parametrize(("alias", "name"), [("mixup", "linear"), ("cutmix", "patch"), ("cow", "cow")])
def test_a_replacement_has_the_names_of_a_method_and_is_linear_unless_given(alias, name):
    assert MixingConfig(method="patch", replacement=alias).replacement == name
    assert MixingConfig(method="patch").replacement == "linear"
    with pytest.raises(ValidationError, match="replacement"):
        MixingConfig(method="patch", replacement="cutout")


@pytest.mark.parametrize("method", ["linear", "mixup", "patch", "cow"])
def test_with_a_replacement_that_is_not_linear_half_of_the_steps_use_it_unless_said(method):
    assert MixingConfig(method=method, replacement="cutmix").prob == 0.5
    assert MixingConfig(method="linear", replacement="mixup").prob == 1.0


def test_a_replacement_that_no_step_would_use_is_refused():
    values = {"method": "linear", "replacement": "cow", "prob": 1.0}
    assert MixingConfig(**values, decay_from=0.9).used == ("linear", "cow")  # the last epochs use it
    with pytest.raises(ValidationError, match=r"mixing\.replacement: found cow, .*mixing\.prob 1 .*: only linear"):
        MixingConfig(**values, decay_from=1.0)


def test_the_methods_of_a_run_are_those_with_a_chance():
    assert MixingConfig(method="patch").used == ("patch", "linear")
    assert MixingConfig(method="patch", prob=0.0).used == ("linear",)
    assert MixingConfig(method="patch", prob=1.0, decay_from=1.0).used == ("patch",)
    assert MixingConfig(method="cow", replacement="cow").used == ("cow",)


def test_defaults_are_the_papers():
    mixing = MixingConfig(method="patch")
    assert (mixing.alpha, mixing.weight_root, mixing.decay_from) == (2.0, 3.0, 11 / 12)
    assert MsdaConfig(method="cutmix").model_dump() == {"method": "cutmix", "prob": 0.5, "beta": 1.0}
    assert BatchConfig().model_dump() == {"rows": 64, "repetitions": 1, "input_repetition": 0.0}
    assert OptimizerConfig(lr=1, weight_decay=0).momentum == 0.9
    assert OptimizerConfig(lr=1, weight_decay=0).nesterov is True


def test_optional_sections_have_defaults_and_required_ones_do_not():
    config = Config.model_validate(SMALLEST)
    assert (config.mixing, config.msda, config.seed) == (None, None, 1)
    assert config.step == StepConfig(precision="auto", channels_last=True, compile="auto", cuda_graph="auto")
    assert config.evaluation == EvaluationConfig(every_epochs=1, rows=500)
    assert config.checkpoint == CheckpointConfig(every_epochs=30)
    for section in SMALLEST:
        with pytest.raises(ValidationError, match=section):
            Config.model_validate({key: value for key, value in SMALLEST.items() if key != section})


def test_two_members_without_mixing_are_refused():
    network = {**SMALLEST["network"], "members": 2}
    with pytest.raises(ValidationError, match=r"mixing: .*network\.members 2"):
        Config.model_validate({**SMALLEST, "network": network})
    assert Config.model_validate({**SMALLEST, "network": network, "mixing": {"method": "patch"}}).mixing


def test_mixing_with_one_member_is_refused():
    with pytest.raises(ValidationError, match=r"mixing: .*network\.members 1"):
        Config.model_validate({**SMALLEST, "mixing": {"method": "patch"}})


def test_rows_not_divisible_by_repetitions_is_refused():
    assert BatchConfig(rows=100, repetitions=4).rows == 100
    with pytest.raises(ValidationError, match=r"batch\.rows: found 64.*batch\.repetitions 3"):
        BatchConfig(rows=64, repetitions=3)


def test_nesterov_without_momentum_is_refused():
    assert OptimizerConfig(lr=1, weight_decay=0, momentum=0, nesterov=False).momentum == 0
    with pytest.raises(ValidationError, match=r"optimizer\.momentum: .*optimizer\.nesterov"):
        OptimizerConfig(lr=1, weight_decay=0, momentum=0)


@pytest.mark.parametrize(
    "milestones", [{0: 0.1}, {"101": 0.1}, {1.0: 0.1}, {True: 0.1}, {5: 0}, {5: True}, {5: math.nan}, [5], None]
)
def test_milestones_are_epochs_from_1_with_factors_above_0(milestones):
    with pytest.raises(ValidationError, match="milestones"):
        ScheduleConfig(epochs=10, warmup_steps=0, milestones=milestones)


def test_milestones_are_kept_in_order_and_may_lie_past_the_end():
    schedule = ScheduleConfig(epochs=3, warmup_steps=0, milestones={9: 0.5, 1: 0.1})
    assert list(schedule.milestones.items()) == [(1, 0.1), (9, 0.5)]


def test_a_default_mapping_is_not_shared_between_configurations():
    first, second = (ScheduleConfig(epochs=3, warmup_steps=0) for _ in range(2))
    assert first.milestones is not second.milestones


def test_known_keys_are_all_sections_and_all_their_keys():
    keys = known_keys()
    assert len(keys) == len(set(keys))
    assert {key for key in keys if "." not in key} == set(Config.model_fields)
    for model, _ in SECTIONS:
        section = next(key for key in keys if key.replace("_", "") == model.__name__[:-6].lower())
        assert {key for key in keys if key.startswith(f"{section}.")} == {
            f"{section}.{name}" for name in model.model_fields
        }


def test_every_known_key_can_be_described_in_words():
    for key in known_keys():
        words = allowed_in_words(key.split("."))
        assert words and words == words.strip() and "\n" not in words


@pytest.mark.parametrize(
    ("loc", "words"),
    [
        (("network", "width"), "a whole number from 1 to 32"),
        (("data", "augmentation"), "standard or augmix"),
        (("data", "crop_padding"), "a whole number from 0 to 64 or null"),
        (("optimizer", "momentum"), "a number at least 0 and below 1"),
        (("mixing", "decay_from"), "a number above 0 and at most 1"),
        (
            ("mixing", "method"),
            "linear, patch, cow, noise, patchuphard, patchupsoft, stackhorizontal, stackvertical, channel "
            "or stackchannel",
        ),
        (("step", "channels_last"), "true or false"),
        (("step", "compile"), "auto, true or false"),
        (("msda",), "a section with method, prob, beta or null"),
        (("schedule", "milestones", 101), "a number above 0 and at most 1000"),
    ],
)
def test_what_is_allowed_reads_as_a_person_would_say_it(loc, words):
    assert allowed_in_words(loc) == words


def test_the_configuration_imports_no_torch_and_no_numpy():
    code = (
        "import sys, mixmo_fast.config.load, mixmo_fast.config.paper; "
        "print([m for m in ('torch', 'numpy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_model_is_listed_in_these_tests():
    models = {
        value
        for name, value in vars(schema).items()
        if isinstance(value, type) and issubclass(value, BaseModel) and name.endswith("Config")
    }
    assert models == {model for model, _ in SECTIONS} | {Config}
