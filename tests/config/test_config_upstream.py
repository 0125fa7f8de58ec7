"""The authors' configuration files: recognised, refused where they mean something else, and translated exactly.

That every name of their grammar is read as the run of that name is in `test_config_upstream_grammar.py`.
"""

import pytest
from authors_form import CUTMIXMO, NOTHING, SINGLE, changed, leaves, theirs
from hypothesis import given, settings
from hypothesis import strategies as st
from places import TESTS

from mixmo_fast.config.load import check_config, is_upstream, load_config, parse_config, read_tree
from mixmo_fast.config.paper import PAPER_RUNS, paper_config, render_paper_yaml
from mixmo_fast.config.safe_yaml import read_yaml
from mixmo_fast.config.upstream import from_upstream
from mixmo_fast.errors import ConfigError

FILE = TESTS / "golden" / "reference_wrn10-1_cutmixmo.yaml"


def translated(tree: dict):
    """The checked configuration that a file of theirs becomes."""
    return check_config(from_upstream(tree, "old.yaml").tree, "old.yaml")


def test_the_file_that_the_authors_code_trained_with_is_what_it_says():
    config = load_config(FILE)
    assert config.model_dump(include={"network", "mixing", "msda", "batch", "schedule"}) == {
        "network": {"kind": "wide_resnet", "depth": 10, "width": 1, "members": 2},
        "mixing": {
            **{"method": "patch", "prob": 0.5, "replacement": "linear", "decay_from": 11 / 12},
            **{"alpha": 2.0, "weight_root": 3.0},
        },
        "msda": {"method": "cutmix", "prob": 0.5, "beta": 1.0},
        "batch": {"rows": 64, "repetitions": 4, "input_repetition": 0.0},
        "schedule": {"epochs": 300, "warmup_steps": 3128, "milestones": {101: 0.1, 201: 0.1, 226: 0.1}},
    }
    assert config.optimizer.weight_decay == 6e-4
    assert config.optimizer.lr == 0.0125


@pytest.mark.parametrize("name", PAPER_RUNS)
def test_a_file_of_ours_is_not_taken_for_one_of_theirs(name):
    assert not is_upstream(read_yaml(render_paper_yaml(name), name))


def test_a_file_of_theirs_is_recognised_though_half_of_it_is_missing():
    assert is_upstream(CUTMIXMO)
    assert is_upstream({"model_wrapper": {}}) and is_upstream({"training": None})
    assert not is_upstream({"data": {}, "num_members": 2})
    assert not is_upstream({"training": {}, "network": {}})
    assert not is_upstream(["training"]) and not is_upstream(None)


def test_a_checkpoints_configuration_is_never_one_of_theirs():
    with pytest.raises(ConfigError, match="unknown key"):
        parse_config(FILE.read_text(), "last.pt")


def test_a_translation_is_announced_in_one_line_and_a_file_of_ours_is_not(tmp_path):
    said = []
    load_config(FILE, notify=said.append)
    (line,) = said
    assert line == (
        f"{FILE}: a mixmo-pytorch configuration, translated; `mixmo-fast config import {FILE} -o NEW.yaml` writes it "
        "in this program's form"
    )
    own = tmp_path / "own.yaml"
    own.write_text(render_paper_yaml("exp_cifar10_wrn2810_1net_standard_bar1"))
    load_config(own, notify=said.append)
    assert len(said) == 1


def test_overrides_of_a_file_of_theirs_have_our_keys():
    config = load_config(FILE, ["mixing.prob=0.25", "msda=null", "data.dataset=fashion_mnist"])
    assert config.mixing.prob == 0.25
    assert config.msda is None
    assert config.data.dataset == "fashion_mnist"
    with pytest.raises(ConfigError, match=r"--set training\.nb_epochs=3"):
        load_config(FILE, ["training.nb_epochs=3"])


@pytest.mark.parametrize("dataset", ["tinyimagenet", "tinyimagenet200"])
def test_tiny_imagenet_has_two_spellings(dataset):
    tree = changed(theirs("exp_tinyimagenet_res18_1net_standard_bar1"), "data.dataset", dataset)
    assert translated(tree).data.dataset == "tinyimagenet"


@pytest.mark.parametrize(
    ("theirs", "mixing", "msda"),
    [
        ("mixup", "linear", "mixup"),
        ("cutmix", "patch", "cutmix"),
        ("patchuphard2d", "patchuphard", "patchuphard"),
        *(
            (name, name, name)
            for name in (
                *("cow", "noise"),
                *("stackchannel", "stackhorizontal", "stackvertical", "channel"),
            )
        ),
    ],
)
def test_every_mask_has_its_name_in_features_and_in_images(theirs, mixing, msda):
    tree = changed(CUTMIXMO, "training.dataset_wrapper.mixmo.mix_method", theirs)
    config = translated(changed(tree, "training.dataset_wrapper.msda.mix_method", {"method_name": theirs}))
    assert (config.mixing.method, config.mixing.prob) == (mixing, 1.0)
    assert config.msda.method == msda


def test_a_mask_without_a_replacement_is_never_replaced():
    mixing = translated(changed(CUTMIXMO, "training.dataset_wrapper.mixmo.mix_method", "cutmix")).mixing
    assert (mixing.method, mixing.prob, mixing.decay_from) == ("patch", 1.0, 1.0)


@pytest.mark.parametrize(("l2_reg", "weight_decay", "ours"), [(3e-4, 0, 6e-4), (0.25, 0.125, 0.625), (None, 0.5, 0.5)])
def test_a_squared_term_in_the_loss_is_twice_as_much_decay(l2_reg, weight_decay, ours):
    tree = changed(CUTMIXMO, "model_wrapper.loss.l2_reg", l2_reg)
    tree = changed(tree, "model_wrapper.optimizer.params.weight_decay", weight_decay)
    assert translated(tree).optimizer.weight_decay == ours
    # What decides is the gradient that is added for a weight w: of l2 * w**2, and of the decay.
    w, h = 1.5, 1e-6
    slope = (l2_reg or 0) * ((w + h) ** 2 - (w - h) ** 2) / (2 * h) + weight_decay * w
    assert slope == pytest.approx(ours * w, rel=1e-6)


@pytest.mark.parametrize(
    ("tree", "dotted", "value"),
    [
        (SINGLE, "training.dataset_wrapper.mixmo", NOTHING),
        (SINGLE, "training.batch_sampler", None),
        (SINGLE, "training.batch_sampler", NOTHING),
        (SINGLE, "training.dataset_wrapper.da_method", NOTHING),
        (SINGLE, "training.batch_sampler.proba_input_repetition", None),
        (SINGLE, "num_members", NOTHING),
        (SINGLE, "data.num_classes", NOTHING),
        (SINGLE, "model_wrapper.loss.listloss", [{**SINGLE["model_wrapper"]["loss"]["listloss"][0]}]),
        (
            SINGLE,
            "model_wrapper.loss.listloss",
            [{"name": "cross_entropy", "coeff": 1, "input": "logits", "target": "target"}],
        ),
        (CUTMIXMO, "model_wrapper.metrics", None),
        (CUTMIXMO, "model_wrapper.metrics", ["mine"]),
        (CUTMIXMO, "model_wrapper.name", "mine"),
        (CUTMIXMO, "model_wrapper.loss.display_name", "mine"),
        (CUTMIXMO, "model_wrapper.loss.listloss.0.display_name", "mine"),
        (CUTMIXMO, "training.dataset_wrapper.da_method", "none"),
        (
            CUTMIXMO,
            "model_wrapper.optimizer.params",
            {
                **CUTMIXMO["model_wrapper"]["optimizer"]["params"],
                **{"dampening": 0, "maximize": False, "differentiable": False, "foreach": None, "fused": True},
            },
        ),
        (CUTMIXMO, "model_wrapper.lr_schedule.params.dict_milestone_to_gamma.-1", 0.1),
        (CUTMIXMO, "model_wrapper.metrics_only_test", NOTHING),
        (CUTMIXMO, "model_wrapper.loss.display_name", NOTHING),
        (CUTMIXMO, "model_wrapper.loss.listloss.1.coeff", 1),
        (CUTMIXMO, "model_wrapper.loss.listloss.2", NOTHING),
        (
            CUTMIXMO,
            "model_wrapper.lr_schedule.params.dict_milestone_to_gamma",
            {226: 0.1, 101: 0.1, 201: 0.1},
        ),
    ],
)
def test_what_may_be_left_out_or_said_differently_changes_nothing(tree, dotted, value):
    assert translated(changed(tree, dotted, value)) == translated(tree)


OPTIONAL = (
    *("num_members", "data.num_classes", "training.dataset_wrapper", "training.batch_sampler"),
    *(f"training.dataset_wrapper.{key}" for key in ("mixmo", "msda", "da_method")),
    *(f"training.batch_sampler.{key}" for key in ("batch_repetitions", "proba_input_repetition")),
    *("model_wrapper.name", "model_wrapper.loss.l2_reg", "model_wrapper.loss.listloss.0.display_name"),
    *("model_wrapper.optimizer.params.weight_decay", "model_wrapper.lr_schedule", "model_wrapper.warmup_period"),
    *("model_wrapper.metrics", "model_wrapper.metrics_only_test"),
)


@pytest.mark.parametrize("dotted", OPTIONAL)
def test_null_is_how_an_absent_thing_is_written(dotted):
    assert from_upstream(changed(SINGLE, dotted, None), "old.yaml") == from_upstream(
        changed(SINGLE, dotted, NOTHING), "old.yaml"
    )


@pytest.mark.parametrize("numbers", [{}, {"beta": None, "prob": None}, {"beta": "one", "prob": 2}])
def test_without_a_method_no_images_are_mixed_whatever_the_numbers_say(numbers):
    tree = changed(CUTMIXMO, "training.dataset_wrapper.msda", {"mix_method": None, **numbers})
    assert translated(tree) == translated(changed(CUTMIXMO, "training.dataset_wrapper.msda", None))
    assert (
        "training.dataset_wrapper.msda: dropped, mixmo-pytorch ignores it because its mix_method is null"
        in from_upstream(tree, "old.yaml").notes
    )


@pytest.mark.parametrize("epoch", [-1, "-1", -1000])
def test_a_milestone_before_the_first_epoch_is_dropped_and_told(epoch):
    key = "model_wrapper.lr_schedule.params.dict_milestone_to_gamma"
    translation = from_upstream(changed(CUTMIXMO, key, {101: 0.1, epoch: 0.5}), "old.yaml")
    assert translation.tree["schedule"]["milestones"] == {101: 0.1}
    assert f"{key}.{epoch}: dropped, it is never reached" in translation.notes


@pytest.mark.parametrize("number", [0, -1, -0.5])
def test_ratios_are_equal_at_zero_and_below(number):
    tree = changed(CUTMIXMO, "training.dataset_wrapper.mixmo.alpha", number)
    tree = changed(tree, "training.dataset_wrapper.msda.beta", number)
    config = translated(tree)
    assert (config.mixing.alpha, config.msda.beta) == (0, 0)
    told = [note for note in from_upstream(tree, "old.yaml").notes if note.endswith("both are equal ratios")]
    assert told == (
        []
        if number == 0
        else [
            f"training.dataset_wrapper.mixmo.alpha {number} -> mixing.alpha 0: both are equal ratios",
            f"training.dataset_wrapper.msda.beta {number} -> msda.beta 0: both are equal ratios",
        ]
    )


@pytest.mark.parametrize(
    ("method", "prob", "replacement", "ours"),
    [
        ("cutmix", 0.5, "mixup", ("patch", 0.5, "linear")),
        ("cutmix", 0.5, "cow", ("patch", 0.5, "cow")),
        ("mixup", 0.25, "cutmix", ("linear", 0.25, "patch")),
        ("cow", 1, "patchuphard2d", ("cow", 1.0, "patchuphard")),
    ],
)
def test_a_mask_is_replaced_by_any_other(method, prob, replacement, ours):
    found = {"method_name": method, "prob": prob, "replacement_method_name": replacement}
    tree = changed(CUTMIXMO, "training.dataset_wrapper.mixmo.mix_method", found)
    mixing = translated(tree).mixing
    assert (mixing.method, mixing.prob, mixing.replacement, mixing.decay_from) == (*ours, 11 / 12)
    told = f"mixing.method {ours[0]}, mixing.prob {ours[1]:g}"
    told += "" if ours[2] == "linear" else f", mixing.replacement {ours[2]}"
    assert any(note.endswith(told) for note in from_upstream(tree, "old.yaml").notes)


def test_the_loss_of_a_fourth_member_is_added_and_told():
    tree = changed(CUTMIXMO, "num_members", 4)
    assert translated(tree).network.members == 4
    added = "model_wrapper.loss.listloss: a term added for logits_3; the list is written for 3 members, and "
    assert added + "mixmo-pytorch fails with more" in from_upstream(tree, "old.yaml").notes


@pytest.mark.parametrize(("members", "told"), [(2, False), (3, True)])
def test_a_mask_that_the_authors_have_for_two_members_alone_is_told(members, told):
    tree = changed(theirs("exp_cifar10_wrn2810-2_cowmixmo-p5_standard_bar4"), "num_members", members)
    notes = from_upstream(tree, "old.yaml").notes
    assert any("with more than 2 members mixmo-pytorch knows mixup and cutmix alone" in note for note in notes) == told


def test_null_sections_mean_none_of_it():
    config = translated(changed(SINGLE, "training.dataset_wrapper", None))
    assert (config.mixing, config.msda) == (None, None)
    tree = changed(SINGLE, "model_wrapper.lr_schedule", None)
    config = translated(changed(tree, "model_wrapper.warmup_period", None))
    assert (config.schedule.milestones, config.schedule.warmup_steps) == ({}, 0)


def test_input_repetition_is_kept():
    tree = changed(CUTMIXMO, "training.batch_sampler.proba_input_repetition", 0.25)
    assert translated(tree).batch.input_repetition == 0.25


SCALARS = st.none() | st.booleans() | st.integers(-2, 70) | st.floats() | st.sampled_from(["", "cutmix", "logits_1"])
ANYTHING = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["name", "prob"]), inner)
)


@settings(max_examples=300)
@given(st.sampled_from([CUTMIXMO, SINGLE]), st.data())
def test_any_value_anywhere_is_translated_into_a_valid_configuration_or_told_in_one_line(tree, data):
    dotted = data.draw(st.sampled_from(sorted(leaves(tree))))
    tree = changed(tree, dotted, data.draw(ANYTHING | st.just(NOTHING)))
    try:
        translation = from_upstream(tree, "old.yaml")
    except ConfigError as error:
        assert str(error).startswith("old.yaml: ") and str(error).isprintable()
    else:
        check_config(translation.tree, "old.yaml")
        assert all(note.isprintable() for note in translation.notes)


def test_augmix_is_an_augmentation_of_the_data():
    tree = changed(SINGLE, "training.dataset_wrapper.da_method", "augmix")
    assert translated(tree).data.augmentation == "augmix"
    assert translated(SINGLE).data.augmentation == "standard"
    notes = from_upstream(tree, "old.yaml").notes
    assert "training.dataset_wrapper.da_method augmix -> data.augmentation" in notes
    alone = changed(tree, "training.dataset_wrapper.msda", None)
    assert translated(alone) == paper_config("exp_cifar10_wrn2810_1net_daaugmix_bar1")


def test_the_notes_say_what_became_of_what():
    notes = "\n".join(from_upstream(read_tree(FILE), "old.yaml").notes)
    for said in (
        "network wideresnetmixmo, num_members 2 -> network.kind wide_resnet, network.members 2",
        "mixmo.mix_method cutmix with prob 0.5, else mixup -> mixing.method patch, mixing.prob 0.5",
        "mixing.decay_from 0.9167",
        "training.batch_size 64 -> batch.rows 64: both count the repetitions",
        "l2_reg 0.0003 -> optimizer.weight_decay 0.0006",
        "metrics, metrics_only_test: dropped",
        "display_name: dropped",
    ):
        assert said in notes
    plain = "\n".join(from_upstream(theirs("exp_tinyimagenet_res18_1net_standard_bar1"), "old.yaml").notes)
    assert "l2_reg" not in plain and "mixing" not in plain and "widen_factor: not given" not in plain
