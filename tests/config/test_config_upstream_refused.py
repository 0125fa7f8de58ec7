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
            "training.dataset_wrapper.da_method: found 'autoaugment', allowed: augmix, or none, or null",
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
            None,
            "training.dataset_wrapper.mixmo.mix_method: found cutmix with prob 0.5, else nothing, allowed: one method, "
            "or one with a prob and a replacement_method_name",
        ),
        (
            "training.dataset_wrapper.mixmo.mix_method.prob",
            NOTHING,
            "training.dataset_wrapper.mixmo.mix_method: found cutmix with no prob, else mixup, allowed: one method, or "
            "one with a prob and a replacement_method_name",
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
        ("model_wrapper.metrics.0", 5, "model_wrapper.metrics.0: found 5, allowed: null, or a list of names"),
        (
            "training.dataset_wrapper.mixmo.mix_method.method_name",
            None,
            f"training.dataset_wrapper.mixmo.mix_method.method_name: found null, allowed: {MASKS}",
        ),
        (
            "training.dataset_wrapper.mixmo.mix_method",
            None,
            f"training.dataset_wrapper.mixmo.mix_method: found null, allowed: {MASKS}, or a mapping with method_name, "
            "prob, replacement_method_name",
        ),
        (
            "training.dataset_wrapper.mixmo.mix_method.method_name",
            "patchuphard",
            "training.dataset_wrapper.mixmo.mix_method.method_name: found 'patchuphard', " + BY_CHANNEL,
        ),
        (
            "training.dataset_wrapper.mixmo.mix_method.replacement_method_name",
            "patchupsoft",
            "training.dataset_wrapper.mixmo.mix_method.replacement_method_name: found 'patchupsoft', " + BY_CHANNEL,
        ),
        (
            "training.dataset_wrapper.mixmo.mix_method",
            "patchupsoft",
            "training.dataset_wrapper.mixmo.mix_method: found 'patchupsoft', " + BY_CHANNEL,
        ),
        (
            "training.dataset_wrapper.msda.mix_method",
            "patchuphard",
            "training.dataset_wrapper.msda.mix_method: found 'patchuphard', " + BY_CHANNEL,
        ),
        (
            "model_wrapper.optimizer.params.dampening",
            0.1,
            "model_wrapper.optimizer.params.dampening: found 0.1, allowed: only 0, torch's default",
        ),
        (
            "model_wrapper.optimizer.params.maximize",
            True,
            "model_wrapper.optimizer.params.maximize: found true, allowed: only false, torch's default",
        ),
        (
            "model_wrapper.optimizer.params.betas",
            None,
            "model_wrapper.optimizer.params.betas: unknown key; allowed: lr, momentum, weight_decay, nesterov",
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
            {0: 0.1},
            "model_wrapper.lr_schedule.params.dict_milestone_to_gamma.0: found the key 0, allowed: a mapping from "
            "epochs",
        ),
        (
            "model_wrapper.lr_schedule.params.dict_milestone_to_gamma",
            {"-1": 0.1, -1: 0.1},
            "model_wrapper.lr_schedule.params.dict_milestone_to_gamma: found a mapping, allowed: a mapping from "
            "epochs, each given once",
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
