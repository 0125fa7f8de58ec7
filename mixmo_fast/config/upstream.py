"""The authors' configuration files (mixmo-pytorch), translated into our form, one way.

`upstream_form.py` says what such a file may hold, and `upstream_check.py` refuses the rest. Here it becomes our
sections, and what has another name or another unit in them is told in a note, so that nobody has to guess what became
of a number. Values only; there are no arrays here.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from mixmo_fast.config.upstream_check import ReadFile, read_upstream
from mixmo_fast.config.upstream_form import LISTED_MEMBERS, MixMethod, UpstreamFile
from mixmo_fast.mixing.methods import FEATURE_ALIASES, IMAGE_ALIASES

_PAPER_MASKS = ("mixup", "cutmix")
"""The masks that their program has for any number of members."""

_DECAY_FROM = 11 / 12
"""Fraction of a run after which the probability of the configured mask falls; a constant in their code."""


@dataclass(frozen=True)
class Translation:
    """A configuration of the authors' in our form.

    Attributes:
        tree: Section name -> the keys and values that the file decides, in our order; ready for `check_config`.
        notes: Lines in plain words: what has another name or unit here, and what is left out.
    """

    tree: dict[str, dict[str, object]]
    notes: tuple[str, ...]


def from_upstream(tree: Mapping[str, object], name: str) -> Translation:
    """Translates a mixmo-pytorch configuration into our form.

    Args:
        tree: The file as read from YAML.
        name: Where it comes from, for messages.

    Raises:
        ConfigError: One line with the file, the dotted key in it, what was found and what is allowed; unknown keys
            first, with how many more problems there are.
    """
    read = read_upstream(tree, name)
    translated = _translate(read.form)
    return Translation(translated, tuple(_notes(read, translated)))


def _translate(form: UpstreamFile) -> dict[str, dict[str, object]]:
    """Our sections; those of a default, and null ones, are left out."""
    training, wrapper = form.training, form.model_wrapper
    network, params = wrapper.network, wrapper.optimizer.params
    mixmo, msda, sampler = training.dataset_wrapper.mixmo, training.dataset_wrapper.msda, training.batch_sampler
    tree: dict[str, dict[str, object]] = {
        "data": {"dataset": form.data.dataset.removesuffix("200")},
        "network": {
            "kind": network.kind,
            "depth": network.depth,
            "width": network.widen_factor or 1,
            "members": form.num_members,
        },
    }
    if training.dataset_wrapper.da_method != "none":
        tree["data"]["augmentation"] = training.dataset_wrapper.da_method
    if mixmo is not None:
        tree["mixing"] = _method(mixmo.mix_method) | {"alpha": max(mixmo.alpha, 0.0), "weight_root": mixmo.weight_root}
    if msda is not None:
        method = msda.mix_method.sole
        ours = method and IMAGE_ALIASES.get(method, method)
        tree["msda"] = {"method": ours, "prob": msda.prob, "beta": max(msda.beta, 0.0)}
    tree["batch"] = {"rows": training.batch_size, "repetitions": sampler.batch_repetitions}
    if sampler.proba_input_repetition:
        tree["batch"]["input_repetition"] = sampler.proba_input_repetition
    tree["optimizer"] = {
        "lr": params.lr,
        "momentum": params.momentum,
        "nesterov": params.nesterov,
        "weight_decay": params.weight_decay + 2 * wrapper.loss.l2_reg,
    }
    tree["schedule"] = {
        "epochs": training.nb_epochs,
        "warmup_steps": wrapper.warmup_period,
        "milestones": {epoch: gamma for epoch, gamma in _milestones(form).items() if epoch > 0},
    }
    return tree


def _milestones(form: UpstreamFile) -> dict[int, float]:
    """Epoch -> factor, those included that are never reached."""
    schedule = form.model_wrapper.lr_schedule
    return schedule.params.dict_milestone_to_gamma if schedule else {}


def _method(method: MixMethod) -> dict[str, object]:
    """`method`, `prob`, `decay_from` of our mixing section, and `replacement` where it is not linear mixing."""
    name = method.sole or method.method_name
    ours = FEATURE_ALIASES.get(name, name)
    if method.sole is None:
        replacement = FEATURE_ALIASES.get(method.replacement_method_name or "", method.replacement_method_name)
        other = {"replacement": replacement} if replacement != "linear" else {}
        return {"method": ours, "prob": method.prob, **other, "decay_from": _DECAY_FROM}
    # With nothing to fall back on there is nothing to decay to; linear mixing falls back on itself.
    return {"method": ours, "prob": 1.0, "decay_from": _DECAY_FROM if ours == "linear" else 1.0}


def _notes(read: ReadFile, tree: Mapping[str, Mapping[str, object]]) -> Iterator[str]:
    """What a reader who knows the file would otherwise look for."""
    form = read.form
    training, wrapper = form.training, form.model_wrapper
    network, params, loss = wrapper.network, wrapper.optimizer.params, wrapper.loss
    if tree["data"]["dataset"] != form.data.dataset:
        yield f"data.dataset {form.data.dataset} -> {tree['data']['dataset']}"
    if form.data.num_classes is not None:
        yield f"data.num_classes {form.data.num_classes}: dropped, the data set says it"
    yield (
        f"model_wrapper.network {network.name}, num_members {form.num_members} -> "
        f"network.kind {tree['network']['kind']}, network.members {form.num_members}"
    )
    if network.widen_factor is None:
        yield "model_wrapper.network.widen_factor: not given -> network.width 1"
    if "augmentation" in tree["data"]:
        yield f"training.dataset_wrapper.da_method {tree['data']['augmentation']} -> data.augmentation"
    for section, why in read.ignored.items():
        yield f"{section}: dropped, mixmo-pytorch ignores it because {why}"
    yield from _notes_on_mixing(form, tree)
    yield f"training.batch_size {training.batch_size} -> batch.rows {training.batch_size}: both count the repetitions"
    if loss.l2_reg:
        decay = tree["optimizer"]["weight_decay"]
        beside = f" beside weight_decay {params.weight_decay:g}" if params.weight_decay else ""
        yield (
            f"model_wrapper.loss.l2_reg {loss.l2_reg:g}{beside} -> optimizer.weight_decay {decay:g}: the gradient of "
            f"{loss.l2_reg:g} * w^2 is {2 * loss.l2_reg:g} * w, which is what SGD's coupled decay adds"
        )
    given = params.model_fields_set
    for key, default in (("momentum", "0"), ("nesterov", "false"), ("weight_decay", "0")):
        if key not in given:
            yield f"model_wrapper.optimizer.params.{key}: not given -> torch's default, {default}"
    for epoch in _milestones(form):
        if epoch < 0:
            yield f"model_wrapper.lr_schedule.params.dict_milestone_to_gamma.{epoch}: dropped, it is never reached"
    if form.inputs_left_out:
        yield (
            f"model_wrapper.loss.listloss: a term added for {', '.join(form.inputs_left_out)}; the list is written for "
            f"{LISTED_MEMBERS} members, and mixmo-pytorch fails with more"
        )
    yield (
        "model_wrapper.loss.listloss: dropped, because each member's weighted cross entropy of its own target is what "
        "is always trained with"
    )
    if wrapper.metrics or wrapper.metrics_only_test:
        yield "model_wrapper.metrics, metrics_only_test: dropped, because all scores are computed at every evaluation"
    if loss.display_name or any(term.display_name for term in loss.listloss):
        yield "display_name: dropped, nothing is shown under those names here"


def _notes_on_mixing(form: UpstreamFile, tree: Mapping[str, Mapping[str, object]]) -> Iterator[str]:
    """`_notes`, of masks."""
    wrapper = form.training.dataset_wrapper
    if wrapper.mixmo is not None:
        found, ours = wrapper.mixmo.mix_method, tree["mixing"]
        replacement = f", mixing.replacement {ours['replacement']}" if "replacement" in ours else ""
        yield (
            f"training.dataset_wrapper.mixmo.mix_method {found.in_words()} -> mixing.method {ours['method']}, "
            f"mixing.prob {ours['prob']:g}{replacement}"
        )
        if found.sole is None:
            yield (
                f"mixing.decay_from {ours['decay_from']:.4g}: a constant of mixmo-pytorch, an option here: the "
                "fraction of the run after which mixing.prob falls to 0"
            )
        if form.num_members > 2 and not {found.method_name, found.replacement_method_name} <= {*_PAPER_MASKS, None}:
            yield (
                f"training.dataset_wrapper.mixmo.mix_method {found.in_words()}: with more than 2 members mixmo-pytorch "
                f"knows {' and '.join(_PAPER_MASKS)} alone"
            )
        alpha = wrapper.mixmo.alpha
        if alpha < 0:
            yield f"training.dataset_wrapper.mixmo.alpha {alpha:g} -> mixing.alpha 0: both are equal ratios"
    if wrapper.msda is not None and wrapper.msda.beta < 0:
        yield f"training.dataset_wrapper.msda.beta {wrapper.msda.beta:g} -> msda.beta 0: both are equal ratios"
    if wrapper.msda is not None and wrapper.msda.mix_method.sole != tree["msda"]["method"]:
        yield (
            f"training.dataset_wrapper.msda.mix_method {wrapper.msda.mix_method.sole} -> "
            f"msda.method {tree['msda']['method']}"
        )
