"""Reading configurations: the YAML that is understood, overrides, and what is said about what is not."""

import time
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from mixmo_fast.config.load import (
    apply_overrides,
    check_config,
    load_config,
    parse_config,
    to_yaml,
    yaml_line,
)
from mixmo_fast.config.safe_yaml import MAX_BYTES
from mixmo_fast.config.schema import Config
from mixmo_fast.errors import ConfigError

TEXT = """\
# a comment
data: {dataset: cifar100}
network: {kind: wide_resnet, depth: 28, width: 10, members: 2}
mixing: {method: patch, prob: 0.5}
optimizer:
  lr: 5e-4
  weight_decay: 6.0e-4
schedule: {epochs: 300, warmup_steps: 3128, milestones: {101: 0.1, 201: 1e-1}}
"""


MIXING_METHODS = (
    "linear, patch, cow, noise, patchuphard, patchupsoft, stackhorizontal, stackvertical, channel or stackchannel"
)


def complaint(text: str, *overrides: str) -> str:
    """The one line that is said about `text` from the file `run.yaml` after `overrides`."""
    with pytest.raises(ConfigError) as caught:
        parse(text, *overrides)
    message = str(caught.value)
    assert message.isprintable(), message
    return message


def parse(text: str, *overrides: str) -> Config:
    """The configuration in `text` after `overrides`."""
    if not overrides:
        return parse_config(text, "run.yaml")
    tree = parse_config(text, "run.yaml").model_dump(exclude_unset=True)
    return check_config(apply_overrides(tree, overrides), "run.yaml", overrides)


def number(low: float, high: float, **edges: bool) -> st.SearchStrategy[float]:
    return st.floats(low, high, allow_nan=False, allow_infinity=False, **edges)


@st.composite
def configs(draw) -> Config:
    """Any valid configuration, every key of it."""
    members = draw(st.integers(1, 16))
    repetitions = draw(st.integers(1, 8))
    momentum = draw(number(0, 1, exclude_max=True))
    wide = draw(st.booleans())
    flag, above_zero = st.booleans(), number(0, 1000, exclude_min=True)
    mixing = {
        "method": draw(st.sampled_from(["linear", "patch", "mixup", "cutmix"])),
        "prob": draw(number(0, 1)),
        "alpha": draw(number(0, 1000)),
        "weight_root": draw(above_zero),
        "decay_from": draw(number(0, 1, exclude_max=True, exclude_min=True)),
        "replacement": draw(st.sampled_from(["linear", "patch", "mixup", "cow"])),
    }
    msda = {
        "method": draw(st.sampled_from(["mixup", "cutmix"])),
        "prob": draw(number(0, 1)),
        "beta": draw(number(0, 1000)),
    }
    return Config.model_validate(
        {
            "data": {
                "dataset": draw(
                    st.from_regex(r"[a-z][a-z0-9_]{0,20}", fullmatch=True) | st.sampled_from(["null", "yes", "true"])
                ),
                "augmentation": draw(st.sampled_from(["standard", "augmix"])),
                "crop_padding": draw(st.none() | st.integers(0, 64)),
                "flip": draw(st.none() | flag),
                "holdout": draw(number(0, 1, exclude_max=True)),
            },
            "network": {
                "kind": "wide_resnet" if wide else "preact_resnet",
                "depth": 6 * draw(st.integers(1, 100)) + 4 if wide else 18,
                "width": draw(st.integers(1, 32)),
                "members": members,
            },
            "mixing": mixing if members > 1 else None,
            "msda": draw(st.sampled_from([None, msda])),
            "batch": {
                "rows": repetitions * draw(st.integers(1, 1000)),
                "repetitions": repetitions,
                "input_repetition": draw(number(0, 1)),
            },
            "optimizer": {
                "lr": draw(above_zero),
                "momentum": momentum,
                "nesterov": momentum > 0 and draw(flag),
                "weight_decay": draw(number(0, 1000)),
            },
            "schedule": {
                "epochs": draw(st.integers(1, 10**6)),
                "warmup_steps": draw(st.integers(0, 10**9)),
                "milestones": draw(st.dictionaries(st.integers(1, 10**6), above_zero, max_size=4)),
            },
            "step": {
                "precision": draw(st.sampled_from(["auto", "fp32", "bf16", "fp16"])),
                "channels_last": draw(flag),
                "compile": draw(flag),
            },
            "evaluation": {"every_epochs": draw(st.integers(1, 10**6)), "rows": draw(st.integers(1, 10**6))},
            "checkpoint": {"every_epochs": draw(st.integers(0, 10**6)), "every_minutes": draw(st.none() | above_zero)},
            "seed": draw(st.integers(0, 2**63 - 1)),
        }
    )


@settings(max_examples=100, deadline=None)
@given(configs())
def test_config_to_yaml_and_back_is_the_identity(config):
    text = to_yaml(config)
    assert parse_config(text, "x") == config
    assert to_yaml(parse_config(text, "x")) == text


@settings(max_examples=50, deadline=None)
@given(configs())
def test_other_yaml_readers_understand_what_is_written(config):
    assert Config.model_validate(yaml.safe_load(to_yaml(config))) == config


def test_yaml_spells_every_key_in_the_schemas_order():
    text = to_yaml(parse(TEXT))
    assert text.splitlines() == [
        "data: {dataset: cifar100, augmentation: standard, crop_padding: null, flip: null, holdout: 0.0}",
        "network: {kind: wide_resnet, depth: 28, width: 10, members: 2}",
        "mixing: {method: patch, prob: 0.5, replacement: linear, alpha: 2.0, weight_root: 3.0, "
        "decay_from: 0.9166666666666666}",
        "msda: null",
        "batch: {rows: 64, repetitions: 1, input_repetition: 0.0}",
        "optimizer: {lr: 0.0005, momentum: 0.9, nesterov: true, weight_decay: 0.0006, lr_scaling: none, lr_rows: null}",
        "schedule: {epochs: 300, warmup_steps: 3128, milestones: {101: 0.1, 201: 0.1}}",
        "step: {precision: auto, channels_last: true, stem: auto, compile: auto, cuda_graph: auto, "
        "cudnn_benchmark_limit: 10, fused_optimizer: true, deterministic: false}",
        "evaluation: {every_epochs: 1, rows: 500}",
        "checkpoint: {every_epochs: 30, every_minutes: null}",
        "seed: 1",
    ]


def test_a_yaml_line_is_one_line_however_long():
    line = yaml_line("schedule", {"milestones": dict.fromkeys(range(1, 200), 0.1)})
    assert line.count("\n") == 1 and line.endswith("}}\n")


# Reading


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("5e-4", 5e-4),
        ("5E-4", 5e-4),
        ("1e+0", 1.0),
        (".5", 0.5),
        ("1.", 1.0),
        ("+0.5", 0.5),
        ("1", 1.0),
        ("5.0e-4", 5e-4),
    ],
)
def test_a_number_is_read_as_a_person_means_it(written, value):
    assert parse(TEXT.replace("5e-4", written)).optimizer.lr == value


@pytest.mark.parametrize("written", ["true", "True", "TRUE"])
def test_true_is_true(written):
    assert parse(TEXT + f"step: {{compile: {written}}}").step.compile is True


@pytest.mark.parametrize("written", ["yes", "on", "y", "Yes", "ON", "1", "'true'"])
def test_yes_and_on_are_not_taken_for_true(written):
    message = complaint(TEXT + f"step: {{compile: {written}}}")
    assert message.startswith("run.yaml: step.compile: found ") and message.endswith("allowed: auto, true or false")


@pytest.mark.parametrize("written", ["null", "~", "Null", ""])
def test_null_in_its_spellings_is_null(written):
    assert parse(TEXT + f"msda: {written}").msda is None


@pytest.mark.parametrize(
    ("written", "named"),
    [
        ("010", "leading zero"),
        ("-007", "leading zero"),
        ("00.5", "leading zero"),
        ("1_000", "underscores"),
        ("1_0.5", "underscores"),
        ("1:30", "base 60"),
        ("190:20:30.15", "base 60"),
        ("0x10", "base 16"),
        ("0o17", "base 16"),
        ("0b11", "base 16"),
    ],
)
def test_a_number_that_yaml_versions_read_differently_is_refused(written, named):
    message = complaint(TEXT.replace("300", written))
    assert message.startswith(f"run.yaml, line 8: schedule.epochs: found {written}, a number ")
    assert named in message


@pytest.mark.parametrize("written", [".inf", "-.inf", ".nan", "inf", "nan", "1e999", "-1e999"])
def test_a_number_that_is_not_finite_is_refused(written):
    message = complaint(TEXT.replace("5e-4", written))
    assert message.startswith("run.yaml: optimizer.lr: found ")
    assert message.endswith("allowed: a number above 0 and at most 1000")


@pytest.mark.parametrize("written", ["1e2", "300.0", "'300'", "2001-01-01", "true", "[300]", "{a: 1}", "three", "null"])
def test_what_is_no_whole_number_is_refused_where_one_is_meant(written):
    message = complaint(TEXT.replace("300", written))
    assert message.startswith("run.yaml: schedule.epochs: found ")
    assert message.endswith("allowed: a whole number from 1 to 1000000")


def test_a_number_of_thousands_of_digits_is_refused_shortly():
    message = complaint(TEXT + "seed: " + "9" * 5000)
    assert message.startswith("run.yaml: seed: found '9999") and len(message) < 200


def test_milestone_keys_are_whole_numbers():
    assert parse(TEXT).schedule.milestones == {101: 0.1, 201: 0.1}
    for key in ("'101'", "abc", "0"):
        message = complaint(TEXT.replace("101:", f"{key}:"))
        assert message.startswith("run.yaml: schedule.milestones.") and "a whole number from 1" in message


@pytest.mark.parametrize(
    ("text", "line", "key"),
    [
        (TEXT + "data: {dataset: cifar10}\n", 9, "data"),
        (TEXT.replace("  lr: 5e-4\n", "  lr: 5e-4\n  lr: 6e-4\n"), 7, "optimizer.lr"),
        (TEXT.replace("{101: 0.1", "{101: 0.1, 101: 0.2"), 8, "schedule.milestones.101"),
        (TEXT.replace("width: 10", "width: 10, 'width': 10"), 3, "network.width"),
    ],
)
def test_a_duplicate_key_is_refused_with_its_line(text, line, key):
    assert complaint(text) == f"run.yaml, line {line}: {key}: given twice; keep one"


@pytest.mark.parametrize(
    ("text", "named"),
    [
        (TEXT.replace("{dataset", "&d {dataset"), "line 2: data: found an anchor"),
        (TEXT.replace("300", "&n 300"), "line 8: schedule.epochs: found an anchor"),
        (TEXT + "msda: *d\n", "line 9: msda: found an anchor or alias"),
        (TEXT + "*d : 1\n", "line 9: found an anchor or alias"),
        (TEXT.replace("300", "!!int '300'"), "line 8: schedule.epochs: found a tag"),
        (TEXT.replace("{dataset", "!!python/object:os.system {dataset"), "line 2: data: found a tag"),
        (TEXT + "---\ndata: {}\n", "line 9: found a second document"),
        ("%YAML 1.1\n---\n" + TEXT, "line 1: found a % directive"),
        (TEXT + "? [a]\n: 1\n", "line 9: found a list or mapping as a key"),
        (TEXT + "1.5: 1\n", "line 9: found the key 1.5"),
        (TEXT + "true: 1\n", "line 9: found the key true"),
        (TEXT + "msda: " + "[" * 20 + "]" * 20, "nested deeper than"),
        (TEXT + "\tmsda: 1", "line 9: not valid YAML"),
        (TEXT + "msda: {", "line 9: not valid YAML"),
        (TEXT + "msda: @x", "line 9: not valid YAML"),
        (TEXT + "msda: \x07", "line 9: not valid YAML"),
        (TEXT + 'msda: "\\UFFFFFFFF"', "not valid YAML"),
        (TEXT + "<<: {seed: 2}\n", "<<: unknown key"),
        ("", "is empty"),
        ("# only a comment\n", "is empty"),
        ("---\n", "found null at the top level"),
        ("[1]", "found a list at the top level"),
        ("cifar10", "found 'cifar10' at the top level"),
    ],
)
def test_yaml_beyond_the_safe_part_is_refused_with_its_line(text, named):
    message = complaint(text)
    assert message.startswith("run.yaml") and named in message


@pytest.mark.parametrize("filler", ["[", "{a: ", "[1,", "a: &a [*a, ", "1_", "- "])
def test_hostile_text_is_refused_at_once(filler):
    text = filler * (MAX_BYTES // len(filler))
    started = time.process_time()
    complaint(text)
    complaint(filler * MAX_BYTES * 100)
    assert time.process_time() - started < 20


@settings(max_examples=300, deadline=None)
@given(st.text() | st.text("{}[]:,-&*!|>'\"%@`#\n \t0aé\\", max_size=40))
def test_any_text_at_all_gives_one_line_and_no_traceback(text):
    complaint(text)


@settings(max_examples=200, deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.text(max_size=9)
                | st.sampled_from(["data", "network", "mixing", "schedule", "milestones", "kind", "depth", "[key]"]),
                inner,
                max_size=4,
            )
        ),
        max_leaves=12,
    )
)
def test_any_value_at_all_gives_one_line_and_no_traceback(value):
    complaint(yaml.safe_dump(value))
    for section in ("network", "schedule", "mixing", "seed"):
        try:
            check_config({**yaml.safe_load(TEXT.replace("5e-4", "0.1").replace("1e-1", "0.1")), section: value}, "x")
        except ConfigError as error:
            assert str(error).isprintable()


# Problems that the schema finds


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("width: 10", "width: 99", "network.width: found 99, allowed: a whole number from 1 to 32"),
        ("width: 10", "width: ten", "network.width: found 'ten', allowed: a whole number from 1 to 32"),
        (", width: 10", "", "network.width: missing, allowed: a whole number from 1 to 32"),
        ("width: 10", "widht: 10", "network.widht: unknown key; did you mean network.width? (and 1 more)"),
        ("optimizer:", "optimiser:", "optimiser: unknown key; did you mean optimizer? (and 1 more)"),
        ("wide_resnet", "resnet", "network.kind: found 'resnet', allowed: wide_resnet or preact_resnet"),
        (
            "depth: 28",
            "depth: 27",
            "network.depth: found 27, allowed with network.kind wide_resnet: 6n+4 (10, 16, 22, 28, ...)",
        ),
        ("# a comment", "lr: 1", "lr: unknown key; did you mean optimizer.lr?"),
        ("# a comment", "batch: 3", "batch: found 3, allowed: a section with rows, repetitions, input_repetition"),
        (
            "# a comment",
            "batch: {rows: 10, repetitions: 4}",
            "batch.rows: found 10, allowed with batch.repetitions 4: a multiple of 4",
        ),
        (
            "# a comment",
            "step: {a: 1, b: 1}",
            "step.a: unknown key; allowed: step.precision, step.channels_last, step.stem, step.compile, "
            "step.cuda_graph, step.cudnn_benchmark_limit, step.fused_optimizer, step.deterministic (and 1 more)",
        ),
        ("# a comment", "seed: '1'", "seed: found '1', allowed: a whole number from 0 to 9223372036854775807"),
        (
            "members: 2",
            "members: 1",
            "mixing: found a section with network.members 1, allowed: null, or network.members 2 or more",
        ),
        ("method: patch", "method: box", f"mixing.method: found 'box', allowed: {MIXING_METHODS}"),
        (
            "cifar100}",
            "CIFAR}",
            "data.dataset: found 'CIFAR', allowed: a name of lowercase letters, digits and underscores, a letter first",
        ),
        ("201: 1e-1", "201: 0", "schedule.milestones.201: found 0, allowed: a number above 0 and at most 1000"),
        (
            "# a comment",
            '"a\\nb": 1',
            "'a\\nb': unknown key; allowed: data, network, mixing, msda, batch, optimizer, "
            "schedule, step, evaluation, checkpoint, seed",
        ),
    ],
)
def test_a_problem_is_told_in_one_line_with_file_key_found_and_allowed(old, new, message):
    assert old in TEXT
    assert complaint(TEXT.replace(old, new)) == f"run.yaml: {message}"


# Overrides


@pytest.mark.parametrize(
    ("override", "section", "key", "value"),
    [
        ("network.width=4", "network", "width", 4),
        ("optimizer.lr=1e-3", "optimizer", "lr", 1e-3),
        (" step.compile = true", "step", "compile", True),
        ("data.flip=false", "data", "flip", False),
        ("mixing.method=mixup", "mixing", "method", "linear"),
        ("schedule.milestones={}", "schedule", "milestones", {}),
        ("schedule.milestones={5: 0.5}", "schedule", "milestones", {5: 0.5}),
        ("schedule.milestones.5=0.5", "schedule", "milestones", {5: 0.5, 101: 0.1, 201: 0.1}),
        ("msda.method=cutmix", "msda", "method", "cutmix"),
        ("msda={method: mixup, prob: 1}", "msda", "prob", 1.0),
        ("batch={rows: 100}", "batch", "rows", 100),
        ("data.dataset=cifar10", "data", "dataset", "cifar10"),
    ],
)
def test_an_override_sets_its_key_and_nothing_else(override, section, key, value):
    before, after = parse(TEXT), parse(TEXT, override)
    assert getattr(getattr(after, section), key) == value
    for other in Config.model_fields:
        if other != section:
            assert getattr(after, other) == getattr(before, other)


def test_overrides_apply_in_order():
    assert parse(TEXT, "seed=3", "seed=4").seed == 4
    config = parse(TEXT, "msda.method=cutmix", "msda.prob=0.25")
    assert (config.msda.method, config.msda.prob) == ("cutmix", 0.25)
    assert parse(TEXT, "msda.method=cutmix", "msda=null").msda is None


def test_null_removes_a_section_so_that_its_default_holds():
    text = TEXT + "msda: {method: cutmix}\nbatch: {rows: 32}\n"
    assert parse(text, "msda=null").msda is None
    assert parse(text, "batch=null").batch.rows == 64
    config = parse(text, "mixing=null", "network.members=1")
    assert config.mixing is None


def test_overrides_leave_the_mapping_they_are_applied_to_alone():
    tree = {"network": {"width": 10}}
    assert apply_overrides(tree, ["network.width=4"]) == {"network": {"width": 4}}
    assert tree == {"network": {"width": 10}}


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("network.widht=4", "network.widht: unknown key; did you mean network.width?"),
        ("lr=4", "lr: unknown key; did you mean optimizer.lr?"),
        ("optimiser.lr=4", "optimiser.lr: unknown key; did you mean optimizer.lr?"),
        ("network.width.x=4", "network.width.x: unknown key; did you mean network.width?"),
        ("seed.x=4", "seed.x: unknown key; "),
        ("=4", ": unknown key; "),
        ("schedule.milestones.[1]=4", "schedule.milestones.[1]: found the key '[1]', allowed: a whole number from 1"),
        ("network.width=010", "network.width: found 010, a number with a leading zero"),
        ("network.width=99", "network.width: found 99, allowed: a whole number from 1 to 32"),
        ("network=null", "network: missing, allowed: a section with kind"),
        ("data=3", "data: found 3, allowed: a section with dataset"),
        ("seed", "allowed: key=value"),
        ("seed=", "allowed: key=value"),
        ("seed=#", "is empty"),
        ("seed=[", "not valid YAML"),
        ("seed=&a 1", "seed: found an anchor"),
        ("seed=1\n---\n2", "found a second document"),
    ],
)
def test_an_override_that_cannot_be_used_is_named_itself(override, message):
    said = complaint(TEXT, override)
    assert said.startswith("--set ") and message in said


def test_an_override_inside_what_is_no_section_is_refused():
    with pytest.raises(ConfigError, match=r"--set network\.width=4: network: found 3 in the file"):
        apply_overrides({"network": 3}, ["network.width=4"])


# Files


def test_a_file_is_loaded_and_overridden(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text(TEXT)
    assert load_config(path) == load_config(str(path)) == parse(TEXT)
    assert load_config(path, ["network.width=4"]).network.width == 4


def test_windows_line_ends_and_a_byte_order_mark_do_no_harm(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + TEXT.replace("\n", "\r\n").encode())
    assert load_config(path) == parse(TEXT)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such file"),
        (b"", "is empty"),
        (b"data: \xff\xfe", "not UTF-8 text at byte 6"),
        (TEXT.encode("utf-16"), "not UTF-8"),
        (b"#" * (MAX_BYTES + 1), f"found more than {MAX_BYTES} bytes"),
        (b"\x7fELF\x00\x00", "line 1: not valid YAML"),
    ],
)
def test_a_file_that_is_no_configuration_is_named_in_one_line(tmp_path, content, message):
    path = tmp_path / "run.yaml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    assert str(caught.value).startswith(str(path)) and message in str(caught.value)
    assert str(caught.value).isprintable()


def test_a_directory_is_named_as_one(tmp_path):
    with pytest.raises(ConfigError, match="found a directory, allowed: a YAML file"):
        load_config(tmp_path)


def test_a_path_through_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(ConfigError, match="cannot be read: Not a directory"):
        load_config(tmp_path / "file" / "run.yaml")


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="needs an endless file")
def test_an_endless_file_is_not_read_to_its_end():
    with pytest.raises(ConfigError, match="more than"):
        load_config("/dev/zero")


def test_a_config_error_hides_the_library_behind_it(tmp_path):
    try:
        parse_config(TEXT.replace("width: 10", "width: ten"), "run.yaml")
    except ConfigError as error:
        assert error.__suppress_context__
    else:
        pytest.fail("width: ten was accepted")
