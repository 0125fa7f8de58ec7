"""The authors' configuration files: recognised, refused where they mean something else, and translated exactly."""

import copy
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from mixmo_fast.config.load import check_config, load_config, parse_config, read_tree
from mixmo_fast.config.paper import PAPER_RUNS, paper_config, render_paper_yaml
from mixmo_fast.config.safe_yaml import read_yaml
from mixmo_fast.config.upstream import from_upstream, is_upstream
from mixmo_fast.config_command import import_config
from mixmo_fast.errors import ConfigError, MixmoError

FILE = Path(__file__).parent / "golden" / "reference_wrn10-1_cutmixmo.yaml"


def theirs(name: str) -> dict:
    """A run's file in their form, from the parts of its name and the numbers of the paper alone."""
    _, dataset, network, mixing, augmentation, bar = name.split("_")
    b = int(bar.removeprefix("bar"))
    tiny = dataset == "tinyimagenet"
    body, _, members = network.partition("-")
    members = int(members or 1)
    family = {"mimo": "mixup", "linearmixmo": "mixup", "cutmixmo-p5": "cutmix", "1net": None}[mixing]
    mixmo = None
    if family == "cutmix":
        method = {"method_name": "cutmix", "prob": 0.5, "replacement_method_name": "mixup"}
        mixmo = {"mix_method": method, "alpha": 2, "weight_root": 3}
    elif family == "mixup":
        alpha, root = (0, 1) if mixing == "mimo" else (2, 3)
        mixmo = {"mix_method": "mixup", "alpha": alpha, "weight_root": root}
    msda = augmentation.removeprefix("msda")
    terms = [
        {
            "name": "soft_cross_entropy",
            "display_name": f"ce{member}",
            "coeff": "<num_members" if member else 1,
            "input": f"logits_{member}",
            "target": f"target_{member}",
        }
        for member in range(3)
    ]
    loss = {"name": "multitask", "display_name": "main", "listloss": terms}
    if not tiny:
        loss["l2_reg"] = 3e-4
    milestones = (600, 900) if tiny else (101, 201, 226)
    return {
        "num_members": members,
        "data": {
            "dataset": dataset,
            "num_classes": {"cifar10": 10, "cifar100": 100, "tinyimagenet": 200}[dataset],
        },
        "training": {
            "nb_epochs": 1200 if tiny else 300,
            "batch_size": 100 if tiny else 64,
            "dataset_wrapper": {
                "mixmo": mixmo,
                "msda": None if msda == "standard" else {"beta": 1, "prob": 0.5, "mix_method": msda},
                "da_method": None,
            },
            "batch_sampler": {"batch_repetitions": b, "proba_input_repetition": 0},
        },
        "model_wrapper": {
            "name": "classifier",
            "network": {
                "name": ("resnet" if tiny else "wideresnet") + ("mixmo" if members > 1 else ""),
                "depth": 18 if tiny else 28,
                "widen_factor": int(body.removeprefix("res18") or 1) if tiny else 10,
            },
            "loss": loss,
            "metrics": ["accuracy"],
            "metrics_only_test": ["nll", "accuracytop5", "diversity", "ece", "auc", "brier", "tace"],
            "optimizer": {
                "name": "sgd",
                "params": {
                    "lr": (0.2 if tiny else 0.05) / b,
                    "momentum": 0.9,
                    "weight_decay": 1e-4 if tiny else 0,
                    "nesterov": True,
                },
            },
            "warmup_period": (1000 if tiny else 782) * b,
            "lr_schedule": {
                "name": "multigamma_step",
                "params": {"dict_milestone_to_gamma": {str(epoch): 0.1 for epoch in milestones}},
            },
        },
    }


CUTMIXMO = theirs("exp_cifar10_wrn2810-2_cutmixmo-p5_msdacutmix_bar4")
SINGLE = theirs("exp_cifar10_wrn2810_1net_msdacutmix_bar1")
NOTHING = object()


def changed(tree: dict, dotted: str, value: object) -> dict:
    """A copy with the value at a dotted key set, or taken out."""
    tree = copy.deepcopy(tree)
    inner = tree
    *path, last = dotted.split(".")
    for part in path:
        inner = inner[int(part) if isinstance(inner, list) else part]
    last = int(last) if isinstance(inner, list) else last
    if value is NOTHING:
        del inner[last]
    else:
        inner[last] = value
    return tree


def translated(tree: dict):
    """The checked configuration that a file of theirs becomes."""
    return check_config(from_upstream(tree, "old.yaml").tree, "old.yaml")


def complaint(tree: dict) -> str:
    with pytest.raises(ConfigError) as caught:
        from_upstream(tree, "old.yaml")
    message = str(caught.value)
    assert message.startswith("old.yaml: ") and message.isprintable(), message
    return message.removeprefix("old.yaml: ")


@pytest.mark.parametrize("name", PAPER_RUNS)
def test_a_published_run_in_their_form_is_the_published_run(name):
    text = yaml.safe_dump(theirs(name))
    assert translated(read_yaml(text, name)) == paper_config(name)


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
                *("cow", "noise", "patchuphard", "patchupsoft"),
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


def test_null_sections_mean_none_of_it():
    config = translated(changed(SINGLE, "training.dataset_wrapper", None))
    assert (config.mixing, config.msda) == (None, None)
    tree = changed(SINGLE, "model_wrapper.lr_schedule", None)
    config = translated(changed(tree, "model_wrapper.warmup_period", None))
    assert (config.schedule.milestones, config.schedule.warmup_steps) == ({}, 0)


def test_input_repetition_is_kept():
    tree = changed(CUTMIXMO, "training.batch_sampler.proba_input_repetition", 0.25)
    assert translated(tree).batch.input_repetition == 0.25


NETWORKS = "wideresnet, wideresnetmixmo, resnet, resnetmixmo"
MASKS = (
    "cutmix, mixup, cow, noise, patchuphard, patchupsoft, stackhorizontal, stackvertical, channel, stackchannel, "
    "patchuphard2d"
)


@pytest.mark.parametrize(
    ("dotted", "value", "message"),
    [
        ("seed", 1, "seed: unknown key; allowed: num_members, data, training, model_wrapper"),
        ("num_member", 2, "num_member: unknown key; did you mean num_members?"),
        (
            "training.batch_repetitions",
            4,
            "training.batch_repetitions: unknown key; did you mean training.batch_sampler.batch_repetitions?",
        ),
        (
            "model_wrapper.network.widen_facto",
            4,
            "model_wrapper.network.widen_facto: unknown key; did you mean model_wrapper.network.widen_factor?",
        ),
        (
            "model_wrapper.loss.listloss.1.coef",
            2,
            "model_wrapper.loss.listloss.1.coef: unknown key; did you mean model_wrapper.loss.listloss.1.coeff?",
        ),
        (
            "model_wrapper.network.name",
            "wideresnetmixm",
            "model_wrapper.network.name: found 'wideresnetmixm', allowed: " + NETWORKS + "; did you mean "
            "wideresnetmixmo?",
        ),
        ("model_wrapper.optimizer.name", "adam", "model_wrapper.optimizer.name: found 'adam', allowed: sgd"),
        (
            "model_wrapper.lr_schedule.name",
            "cosine",
            "model_wrapper.lr_schedule.name: found 'cosine', allowed: multigamma_step",
        ),
        (
            "training.dataset_wrapper.mixmo.mix_method.method_name",
            "cutmx",
            f"training.dataset_wrapper.mixmo.mix_method.method_name: found 'cutmx', allowed: {MASKS}; did you mean "
            "cutmix?",
        ),
        (
            "training.dataset_wrapper.msda.mix_method",
            "mixupp",
            f"training.dataset_wrapper.msda.mix_method: found 'mixupp', allowed: {MASKS}, or a mapping with "
            "method_name, prob, replacement_method_name; did you mean mixup?",
        ),
        (
            "training.dataset_wrapper.da_method",
            "autoaugment",
            "training.dataset_wrapper.da_method: found 'autoaugment', allowed: augmix, or null",
        ),
        (
            "data.dataset",
            "cifar1000",
            "data.dataset: found 'cifar1000', allowed: cifar10, cifar100, tinyimagenet, tinyimagenet200; did you mean "
            "cifar100?",
        ),
        ("data.num_classes", 100, "data.num_classes: found 100, allowed with data.dataset cifar10: 10"),
        ("num_members", 1, "num_members: found 1, allowed with model_wrapper.network.name wideresnetmixmo: 2 or more"),
        (
            "model_wrapper.network.name",
            "wideresnet",
            "num_members: found 2, allowed with model_wrapper.network.name wideresnet: 1",
        ),
        (
            "model_wrapper.network.depth",
            27,
            "model_wrapper.network.depth: found 27, allowed with wideresnetmixmo: 6n+4 (10, 16, 22, 28, ...)",
        ),
        (
            "model_wrapper.network.name",
            "resnetmixmo",
            "model_wrapper.network.depth: found 28, allowed with resnetmixmo: only 18",
        ),
        (
            "model_wrapper.network.widen_factor",
            NOTHING,
            "model_wrapper.network.widen_factor: missing, allowed with wideresnetmixmo: a whole number from 1 to 32",
        ),
        (
            "training.dataset_wrapper.mixmo",
            None,
            "training.dataset_wrapper.mixmo: missing with num_members 2, allowed: a section with mix_method, alpha, "
            "weight_root",
        ),
        (
            "training.dataset_wrapper.mixmo.mix_method.replacement_method_name",
            "cow",
            "training.dataset_wrapper.mixmo.mix_method: found cutmix with prob 0.5, else cow, allowed: one method, or "
            "one with a prob and replacement_method_name mixup",
        ),
        (
            "training.dataset_wrapper.mixmo.mix_method.replacement_method_name",
            None,
            "training.dataset_wrapper.mixmo.mix_method: found cutmix with prob 0.5, else nothing, allowed: one method, "
            "or one with a prob and replacement_method_name mixup",
        ),
        (
            "training.dataset_wrapper.mixmo.mix_method.prob",
            NOTHING,
            "training.dataset_wrapper.mixmo.mix_method: found cutmix with no prob, else mixup, allowed: one method, or "
            "one with a prob and replacement_method_name mixup",
        ),
        (
            "training.dataset_wrapper.msda.mix_method",
            {"method_name": "cutmix", "prob": 0.5, "replacement_method_name": "mixup"},
            "training.dataset_wrapper.msda.mix_method: found cutmix with prob 0.5, else mixup, allowed: one method",
        ),
        (
            "training.batch_sampler.batch_repetitions",
            3,
            "training.batch_size: found 64, allowed with training.batch_sampler.batch_repetitions 3: a multiple of 3",
        ),
        (
            "model_wrapper.optimizer.params.momentum",
            NOTHING,
            "model_wrapper.optimizer.params.momentum: found 0 with nesterov true, allowed: a momentum above 0, or "
            "nesterov false",
        ),
        (
            "model_wrapper.loss.listloss.0.name",
            "kl",
            "model_wrapper.loss.listloss.0.name: found 'kl', allowed: soft_cross_entropy, cross_entropy",
        ),
        (
            "model_wrapper.loss.listloss.0.coeff",
            0.5,
            "model_wrapper.loss.listloss.0.coeff: found 0.5, allowed: 1, <num_members",
        ),
        (
            "model_wrapper.loss.listloss.0.coeff",
            True,
            "model_wrapper.loss.listloss.0.coeff: found true, allowed: 1, <num_members",
        ),
        (
            "model_wrapper.loss.listloss.1.target",
            "target_0",
            "model_wrapper.loss.listloss.1.target: found 'target_0', allowed with input logits_1: target_1",
        ),
        (
            "model_wrapper.loss.listloss.2.coeff",
            1,
            "model_wrapper.loss.listloss.2.input: found 'logits_2', allowed here with num_members 2: no more terms",
        ),
        (
            "model_wrapper.loss.listloss.1",
            NOTHING,
            "model_wrapper.loss.listloss: no term for logits_1, allowed with num_members 2: one for each member",
        ),
        (
            "model_wrapper.loss.listloss.1.input",
            "logits",
            "model_wrapper.loss.listloss.1.target: found 'target_1', allowed with input logits: target",
        ),
        ("model_wrapper.loss", NOTHING, "model_wrapper.loss: missing, allowed: a section with name, listloss, l2_reg"),
        (
            "model_wrapper.metrics.0",
            "acuracy",
            "model_wrapper.metrics.0: found 'acuracy', allowed: accuracy, accuracytop5, nll, ece, auc, brier, tace, "
            "diversity; did you mean accuracy?",
        ),
        ("training.nb_epochs", "300", "training.nb_epochs: found '300', allowed: a whole number from 1 to 1000000"),
        ("training.nb_epochs", 0, "training.nb_epochs: found 0, allowed: a whole number from 1 to 1000000"),
        (
            "model_wrapper.optimizer.params.lr",
            0,
            "model_wrapper.optimizer.params.lr: found 0, allowed: a number above 0 and at most 1000",
        ),
        (
            "model_wrapper.lr_schedule.params.dict_milestone_to_gamma",
            {"soon": 0.1},
            "model_wrapper.lr_schedule.params.dict_milestone_to_gamma.soon: found the key 'soon', allowed: a mapping "
            "from epochs",
        ),
        (
            "model_wrapper.lr_schedule.params.dict_milestone_to_gamma",
            {"101": 0.1, 101: 0.2},
            "model_wrapper.lr_schedule.params.dict_milestone_to_gamma: found a mapping, allowed: a mapping from "
            "epochs, each given once",
        ),
        ("training", None, "training: found null, allowed: a section with nb_epochs, batch_size"),
    ],
)
def test_what_cannot_be_translated_is_told_with_key_found_and_allowed(dotted, value, message):
    assert complaint(changed(CUTMIXMO, dotted, value)).startswith(message)


def test_a_single_network_has_no_feature_mixing():
    tree = changed(SINGLE, "training.dataset_wrapper.mixmo", {"mix_method": "mixup", "alpha": 0, "weight_root": 1})
    assert complaint(tree) == "training.dataset_wrapper.mixmo: found a section with num_members 1, allowed: null"


def test_unknown_keys_are_told_first_and_the_rest_is_counted():
    tree = changed(CUTMIXMO, "training.nb_epochs", -1)
    tree = changed(changed(tree, "data.classes", 10), "model_wrapper.optimizer.name", "adam")
    told = "data.classes: unknown key; did you mean data.num_classes? (and 2 more)"
    assert complaint(tree) == told
    contradictory = changed(changed(CUTMIXMO, "data.num_classes", 9), "training.batch_sampler.batch_repetitions", 3)
    assert complaint(contradictory) == "data.num_classes: found 9, allowed with data.dataset cifar10: 10 (and 1 more)"


def leaves(tree: object, path: tuple = ()):
    """The dotted key of every value in a tree."""
    entries = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in entries:
        yield ".".join(map(str, (*path, key)))
        yield from leaves(value, (*path, key))


SCALARS = st.none() | st.booleans() | st.integers(-2, 70) | st.floats() | st.sampled_from(["", "cutmix", "logits_1"])
ANYTHING = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["name", "prob"]), inner)
)


@settings(max_examples=300, deadline=None)
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


@pytest.mark.parametrize("name", PAPER_RUNS)
def test_an_imported_file_has_the_lines_of_the_published_one(name, tmp_path):
    old, new = tmp_path / "old.yaml", tmp_path / "new" / f"{name}.yaml"
    old.write_text(yaml.safe_dump(theirs(name)))
    imported = import_config(old, new)
    title, command, *lines = new.read_text().splitlines()
    assert title == "# Imported from old.yaml, a mixmo-pytorch configuration."
    assert command == f"# mixmo-fast train {new}"
    assert lines == render_paper_yaml(name).splitlines()[2:]
    assert imported.config == load_config(new) == paper_config(name)
    assert imported.notes


def test_input_repetition_survives_an_import(tmp_path):
    old, new = tmp_path / "old.yaml", tmp_path / "new.yaml"
    old.write_text(yaml.safe_dump(changed(CUTMIXMO, "training.batch_sampler.proba_input_repetition", 0.25)))
    assert import_config(old, new).config.batch.input_repetition == load_config(new).batch.input_repetition == 0.25


def test_an_import_overwrites_nothing_unless_told_to(tmp_path):
    new = tmp_path / "new.yaml"
    new.write_text("mine")
    with pytest.raises(ConfigError, match=r"new\.yaml: exists already; allowed: another name, or --force"):
        import_config(FILE, new)
    assert new.read_text() == "mine"
    import_config(FILE, new, force=True)
    assert load_config(new) == load_config(FILE)
    assert [path.name for path in tmp_path.iterdir()] == ["new.yaml"]


def test_a_file_of_ours_is_not_imported(tmp_path):
    own, new = tmp_path / "own.yaml", tmp_path / "new.yaml"
    own.write_text(render_paper_yaml("exp_cifar10_wrn2810_1net_standard_bar1"))
    with pytest.raises(ConfigError, match=r"own\.yaml: found this program's own form already"):
        import_config(own, new)
    assert not new.exists()


def test_a_file_that_is_nobodys_is_told_so_before_anything_is_written(tmp_path):
    odd, new = tmp_path / "odd.yaml", tmp_path / "new.yaml"
    odd.write_text("recipe: {flour: 500}")
    with pytest.raises(ConfigError, match=r"odd\.yaml: recipe: unknown key"):
        import_config(odd, new)
    assert not new.exists()


def test_an_import_into_a_folder_that_cannot_be_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(MixmoError, match="cannot write"):
        import_config(FILE, tmp_path / "file" / "new.yaml")
