"""What the authors' configuration files may not hold here: each fault is one line with key, found and allowed."""

import pytest
from authors_form import CUTMIXMO, NOTHING, SINGLE, changed, leaves

from mixmo_fast.config.upstream import from_upstream
from mixmo_fast.errors import ConfigError


def complaint(tree: dict) -> str:
    with pytest.raises(ConfigError) as caught:
        from_upstream(tree, "old.yaml")
    message = str(caught.value)
    assert message.startswith("old.yaml: ") and message.isprintable(), message
    return message.removeprefix("old.yaml: ")


NETWORKS = "wideresnet, wideresnetmixmo, resnet, resnetmixmo"
MASKS = "cutmix, mixup, cow, noise, stackhorizontal, stackvertical, channel, stackchannel, patchuphard2d"
BY_CHANNEL = "which draws its seeds for each channel; here all channels share one set, as in patchuphard2d"
MAPPING = ", or a mapping with method_name, prob, replacement_method_name"
ONE = "allowed: one method, or one with a prob and a replacement_method_name"
# Section -> its key, what it is changed to, what is said of it; of another key of the section behind @, of others ~.
REFUSED = {
    "": (
        ("seed", 1, "unknown key; allowed: num_members, data, training, model_wrapper"),
        ("num_member", 2, "unknown key; did you mean num_members?"),
        ("num_members", 1, "found 1, allowed with model_wrapper.network.name wideresnetmixmo: 2 or more"),
        ("training", None, "found null, allowed: a section with nb_epochs, batch_size"),
    ),
    "training": (
        ("batch_repetitions", 4, "unknown key; did you mean training.batch_sampler.batch_repetitions?"),
        ("nb_epochs", "300", "found '300', allowed: a whole number from 1 to 1000000"),
        ("nb_epochs", 0, "found 0, allowed: a whole number from 1 to 1000000"),
    ),
    "model_wrapper.network": (
        ("widen_facto", 4, "unknown key; did you mean model_wrapper.network.widen_factor?"),
        ("name", "wideresnetmixm", f"found 'wideresnetmixm', allowed: {NETWORKS}; did you mean wideresnetmixmo?"),
        ("name", "wideresnet", "~num_members: found 2, allowed with model_wrapper.network.name wideresnet: 1"),
        ("depth", 27, "found 27, allowed with wideresnetmixmo: 6n+4"),
        ("name", "resnetmixmo", "@depth: found 28, allowed with resnetmixmo: only 18"),
        ("widen_factor", NOTHING, "missing, allowed with wideresnetmixmo: a whole number from 1 to 32"),
    ),
    "model_wrapper.loss.listloss": (
        ("1.coef", 2, "unknown key; did you mean model_wrapper.loss.listloss.1.coeff?"),
        ("0.name", "kl", "found 'kl', allowed: soft_cross_entropy, cross_entropy"),
        ("0.coeff", 0.5, "found 0.5, allowed: 1, <num_members"),
        ("0.coeff", True, "found true, allowed: 1, <num_members"),
        ("1.target", "target_0", "found 'target_0', allowed with input logits_1: target_1"),
        ("2.coeff", 1, "@2.input: found 'logits_2', allowed here with num_members 2: no more terms"),
        ("1", NOTHING, "@: no term for logits_1, allowed with num_members 2: one for each member"),
        ("1.input", "logits", "@1.target: found 'target_1', allowed with input logits: target"),
    ),
    "model_wrapper.optimizer": (
        ("name", "adam", "found 'adam', allowed: sgd"),
        ("params.momentum", NOTHING, "found 0 with nesterov true, allowed: a momentum above 0, or nesterov false"),
        ("params.dampening", 0.1, "found 0.1, allowed: only 0, torch's default"),
        ("params.maximize", True, "found true, allowed: only false, torch's default"),
        ("params.betas", None, "unknown key; allowed: lr, momentum, weight_decay, nesterov"),
        ("params.lr", 0, "found 0, allowed: a number above 0 and at most 1000"),
    ),
    "model_wrapper": (
        ("lr_schedule.name", "cosine", "found 'cosine', allowed: multigamma_step"),
        ("loss", NOTHING, "missing, allowed: a section with name, listloss, l2_reg"),
        ("metrics.0", 5, "found 5, allowed: null, or a list of names"),
    ),
    "training.dataset_wrapper.mixmo.mix_method": (
        ("method_name", "cutmx", f"found 'cutmx', allowed: {MASKS}; did you mean cutmix?"),
        ("replacement_method_name", None, f"@: found cutmix with prob 0.5, else nothing, {ONE}"),
        ("prob", NOTHING, f"@: found cutmix with no prob, else mixup, {ONE}"),
        ("method_name", None, f"found null, allowed: {MASKS}"),
        ("method_name", "patchuphard", f"found 'patchuphard', {BY_CHANNEL}"),
        ("replacement_method_name", "patchupsoft", f"found 'patchupsoft', {BY_CHANNEL}"),
    ),
    "training.dataset_wrapper": (
        ("msda.mix_method", "mixupp", f"found 'mixupp', allowed: {MASKS}{MAPPING}; did you mean mixup?"),
        ("da_method", "autoaugment", "found 'autoaugment', allowed: augmix, or none, or null"),
        ("mixmo", None, "missing with num_members 2, allowed: a section with mix_method, alpha, weight_root"),
        (
            "msda.mix_method",
            {"method_name": "cutmix", "prob": 0.5, "replacement_method_name": "mixup"},
            "found cutmix with prob 0.5, else mixup, allowed: one method",
        ),
        ("mixmo.mix_method", None, f"found null, allowed: {MASKS}{MAPPING}"),
        ("mixmo.mix_method", "patchupsoft", f"found 'patchupsoft', {BY_CHANNEL}"),
        ("msda.mix_method", "patchuphard", f"found 'patchuphard', {BY_CHANNEL}"),
    ),
    "data": (
        (
            "dataset",
            "cifar1000",
            "found 'cifar1000', allowed: cifar10, cifar100, tinyimagenet, tinyimagenet200; did you mean cifar100?",
        ),
        ("num_classes", 100, "found 100, allowed with data.dataset cifar10: 10"),
    ),
    "training.batch_sampler": (
        (
            "batch_repetitions",
            3,
            "~training.batch_size: found 64, allowed with training.batch_sampler.batch_repetitions 3: a multiple of 3",
        ),
    ),
    "model_wrapper.lr_schedule.params": (
        (
            "dict_milestone_to_gamma",
            {"soon": 0.1},
            "@dict_milestone_to_gamma.soon: found the key 'soon', allowed: a mapping from epochs",
        ),
        (
            "dict_milestone_to_gamma",
            {0: 0.1},
            "@dict_milestone_to_gamma.0: found the key 0, allowed: a mapping from epochs",
        ),
        (
            "dict_milestone_to_gamma",
            {"-1": 0.1, -1: 0.1},
            "found a mapping, allowed: a mapping from epochs, each given once",
        ),
        (
            "dict_milestone_to_gamma",
            {"101": 0.1, 101: 0.2},
            "found a mapping, allowed: a mapping from epochs, each given once",
        ),
    ),
}


@pytest.mark.parametrize(
    ("section", "key", "value", "said"), [(section, *row) for section in REFUSED for row in REFUSED[section]]
)
def test_what_cannot_be_translated_is_told_with_key_found_and_allowed(section, key, value, said):
    dotted = f"{section}.{key}".removeprefix(".")
    if said.startswith("@"):
        said = f"{section}.{said[1:]}".replace(".: ", ": ")
    elif not said.startswith("~"):
        said = f"{dotted}: {said}"
    assert complaint(changed(CUTMIXMO, dotted, value)).startswith(said.removeprefix("~"))


def test_a_null_is_never_taken_for_a_word_that_looks_like_it():
    """In Python it is None, which looks like noise."""
    refused = []
    for dotted in leaves(CUTMIXMO):
        try:
            from_upstream(changed(CUTMIXMO, dotted, None), "old.yaml")
        except ConfigError as error:
            assert "did you mean" not in str(error)
            refused += [dotted] if f"{dotted}: found null, allowed: " in str(error) else []
    assert "training.dataset_wrapper.mixmo.mix_method.method_name" in refused
    assert len(refused) > 20


def test_in_a_section_that_is_ignored_the_keys_are_still_known_ones():
    where = "training.dataset_wrapper.mixmo.mix_method"
    tree = changed(SINGLE, f"{where}.probs", None)
    assert complaint(tree) == f"{where}.probs: unknown key; did you mean {where}.prob?"
    tree = changed(changed(CUTMIXMO, "training.dataset_wrapper.msda.mix_method", None), "seed", 1)
    tree = changed(tree, "training.dataset_wrapper.msda.betta", 1)
    where = "training.dataset_wrapper.msda.bet"
    assert complaint(tree) == f"{where}ta: unknown key; did you mean {where}a? (and 1 more)"
    assert complaint(changed(SINGLE, "training.dataset_wrapper.mixmo", "cutmix")).startswith(
        "training.dataset_wrapper.mixmo: found 'cutmix', allowed: null, or a section with mix_method, alpha"
    )


def test_a_fourth_members_loss_alone_may_be_missing():
    tree = changed(changed(CUTMIXMO, "num_members", 4), "model_wrapper.loss.listloss.2", NOTHING)
    assert complaint(tree).startswith("model_wrapper.loss.listloss: no term for logits_2, allowed with num_members 4")


def test_unknown_keys_are_told_first_and_the_rest_is_counted():
    tree = changed(CUTMIXMO, "training.nb_epochs", -1)
    tree = changed(changed(tree, "data.classes", 10), "model_wrapper.optimizer.name", "adam")
    told = "data.classes: unknown key; did you mean data.num_classes? (and 2 more)"
    assert complaint(tree) == told
    contradictory = changed(changed(CUTMIXMO, "data.num_classes", 9), "training.batch_sampler.batch_repetitions", 3)
    assert complaint(contradictory) == "data.num_classes: found 9, allowed with data.dataset cifar10: 10 (and 1 more)"
