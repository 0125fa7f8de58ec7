"""Checks the authors' configuration files (mixmo-pytorch) against their form, and tells what is wrong in one line.

`read_upstream` is the only way in: what it returns can be translated (`upstream.py`) without another question. An
unknown key is an error and never ignored, because it may be what somebody's result depends on. Values only; there are
no arrays here.
"""

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from mixmo_fast.config.safe_yaml import dotted_path, show
from mixmo_fast.config.upstream_form import CLASSES, LISTED_MEMBERS, SEEDS_BY_CHANNEL, UpstreamFile
from mixmo_fast.errors import ConfigError
from mixmo_fast.mixing.methods import AUTHORS_MASKS
from mixmo_fast.networks.kinds import KINDS

_UNKNOWN = ("extra_forbidden", "invalid_key")
"""Pydantic's names for a key that the form does not have."""

_MIXMO = ("training", "dataset_wrapper", "mixmo")
_MSDA = ("training", "dataset_wrapper", "msda")


@dataclass(frozen=True)
class ReadFile:
    """A mixmo-pytorch configuration that can be translated.

    Attributes:
        form: What it says; sections that their program ignores are absent from it.
        ignored: Dotted key of each such section -> why it is ignored.
    """

    form: UpstreamFile
    ignored: dict[str, str]


def read_upstream(tree: Mapping[str, object], name: str) -> ReadFile:
    """Checks a mixmo-pytorch configuration.

    Args:
        tree: The file as read from YAML.
        name: Where it comes from, for messages.

    Raises:
        ConfigError: One line with the file, the dotted key, what was found and what is allowed; unknown keys first,
            with how many more problems there are.
    """
    ignored = _ignored(tree)
    unknown = [loc for path in ignored for loc in _unknown_keys(_value_at(tree, path), path)]
    problems = [f"{dotted_path(loc)}: unknown key; {_nearest(loc)}" for loc in unknown]
    for path in ignored:
        tree = _without(tree, path)
    try:
        form = UpstreamFile.model_validate(tree)
    except ValidationError as error:
        found = sorted(error.errors(include_url=False), key=lambda problem: problem["type"] not in _UNKNOWN)
        problems += [_tell(problem) for problem in found]
    else:
        problems += [*_contradictions(form), *_unfit_losses(form)]
    if problems:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise ConfigError(f"{name}: {problems[0]}{more}")
    return ReadFile(form, {dotted_path(path): why for path, why in ignored.items()})


def _ignored(tree: Mapping[str, object]) -> dict[tuple[str, ...], str]:
    """Path of each section that their program ignores -> why. Its known keys may hold anything, null for example."""
    mixmo, msda = _value_at(tree, _MIXMO), _value_at(tree, _MSDA)
    members = tree.get("num_members")
    ignored: dict[tuple[str, ...], str] = {}
    if isinstance(mixmo, dict) and (members is None or members == 1):
        ignored[_MIXMO] = "there is one member"
    if isinstance(msda, dict) and msda.get("mix_method", msda) is None:
        ignored[_MSDA] = "its mix_method is null"
    return ignored


def _value_at(tree: Any, path: Sequence[str]) -> Any:
    """The value at a path of keys, None where there is nothing."""
    for key in path:
        tree = tree.get(key) if isinstance(tree, dict) else None
    return tree


def _without(tree: Mapping[str, Any], path: Sequence[str]) -> dict[str, object]:
    """A copy with nothing at a path of keys that exists."""
    first, *rest = path
    return {**tree, first: _without(tree[first], rest) if rest else None}


def _unknown_keys(section: Mapping, path: tuple[str, ...]) -> Iterator[tuple[str | int, ...]]:
    """Paths of keys in a section that the form does not have, whatever is in them."""
    known = _fields_at(path)
    for key, value in section.items():
        if key not in known:
            yield (*path, key)
        elif isinstance(value, dict) and _model_in(known[key].annotation):
            yield from _unknown_keys(value, (*path, key))


def _contradictions(form: UpstreamFile) -> Iterator[str]:
    """What is allowed key by key, but not together: `key: found ..., allowed ...` each."""
    members, data, network = form.num_members, form.data, form.model_wrapper.network
    classes = CLASSES[data.dataset]
    if data.num_classes not in (None, classes):
        yield f"data.num_classes: found {data.num_classes}, allowed with data.dataset {data.dataset}: {classes}"
    if (members == 1) == network.is_mixmo:
        fitting = "2 or more" if network.is_mixmo else "1"
        yield f"num_members: found {members}, allowed with model_wrapper.network.name {network.name}: {fitting}"
    where = "model_wrapper.network"
    kind = KINDS[network.kind]
    if network.depth not in kind.depths:
        yield f"{where}.depth: found {network.depth}, allowed with {network.name}: {kind.allowed_depths}"
    if kind.authors_need_width and network.widen_factor is None:
        yield f"{where}.widen_factor: missing, allowed with {network.name}: a whole number from 1 to 32"
    yield from _unfit_mixing(form)
    rows, repetitions = form.training.batch_size, form.training.batch_sampler.batch_repetitions
    if rows % repetitions:
        yield (
            f"training.batch_size: found {rows}, allowed with training.batch_sampler.batch_repetitions {repetitions}: "
            f"a multiple of {repetitions}"
        )
    params = form.model_wrapper.optimizer.params
    if params.nesterov and params.momentum == 0:
        yield (
            "model_wrapper.optimizer.params.momentum: found 0 with nesterov true, allowed: a momentum above 0, or "
            "nesterov false"
        )


def _unfit_mixing(form: UpstreamFile) -> Iterator[str]:
    """Masks for another number of members, and draws between masks that nothing here does."""
    members, wrapper = form.num_members, form.training.dataset_wrapper
    where = "training.dataset_wrapper.mixmo"
    if members > 1 and wrapper.mixmo is None:
        yield f"{where}: missing with num_members {members}, allowed: a section with mix_method, alpha, weight_root"
    if wrapper.mixmo is not None:
        method = wrapper.mixmo.mix_method
        if method.sole is None and None in (method.replacement_method_name, method.prob):
            allowed = "one method, or one with a prob and a replacement_method_name"
            yield f"{where}.mix_method: found {method.in_words()}, allowed: {allowed}"
    if wrapper.msda is not None and wrapper.msda.mix_method.sole is None:
        found = wrapper.msda.mix_method.in_words()
        yield f"training.dataset_wrapper.msda.mix_method: found {found}, allowed: one method"


def _unfit_losses(form: UpstreamFile) -> Iterator[str]:
    """What is not MixMo's loss: one cross entropy a member, of its own logits and target, and nothing else."""
    where, members, inputs = "model_wrapper.loss.listloss", form.num_members, form.inputs
    trained = []
    for number, term in enumerate(form.model_wrapper.loss.listloss):
        if term.target.removeprefix("target") != term.input.removeprefix("logits"):
            fitting = term.input.replace("logits", "target")
            yield f"{where}.{number}.target: found {show(term.target)}, allowed with input {term.input}: {fitting}"
            continue
        # One network's logits may go without a number.
        source = "logits_0" if term.input == "logits" and members == 1 else term.input
        if source not in inputs and source != "logits" and term.coeff == "<num_members":
            continue  # their way to write one list for any number of members
        if source not in inputs or source in trained:
            left = ", ".join(name for name in inputs if name not in trained) or "no more terms"
            yield f"{where}.{number}.input: found {show(term.input)}, allowed here with num_members {members}: {left}"
            continue
        trained.append(source)
    missing = [name for name in form.inputs_left_out if name in inputs[:LISTED_MEMBERS]]
    if missing:
        yield f"{where}: no term for {', '.join(missing)}, allowed with num_members {members}: one for each member"


def _tell(problem: Mapping) -> str:
    """One of pydantic's problems in one line: dotted key, what was found, what is allowed."""
    loc = tuple(problem["loc"])
    if problem["type"] in _UNKNOWN:
        return f"{dotted_path(loc)}: unknown key; {_nearest(loc)}"
    as_key = loc[-1] == "[key]"  # pydantic's mark for the key, not the value, of a mapping's entry
    loc = loc[:-1] if as_key else loc
    found = f"found {'the key ' if as_key else ''}{show(problem['input'])}"
    field = _field_at(loc)
    names = AUTHORS_MASKS if problem["type"] == "method" else [str(name) for name in _names_in(field.annotation)]
    allowed = field.description or ", ".join(names)
    hint = ""
    if tuple(names) == AUTHORS_MASKS and problem["input"] in SEEDS_BY_CHANNEL:
        found += ", which draws its seeds for each channel; here all channels share one set, as in patchuphard2d"
    elif isinstance(problem["input"], str):  # a null, say, only looks like a word
        near = difflib.get_close_matches(problem["input"].lower(), names, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
    return f"{dotted_path(loc)}: {'missing' if problem['type'] == 'missing' else found}, allowed: {allowed}{hint}"


def _nearest(loc: Sequence[str | int]) -> str:
    """A hint for an unknown key: the nearest known one beside it, the same one elsewhere, or those beside it."""
    beside = _fields_at(loc[:-1])
    leaf = str(loc[-1])
    close = [dotted_path((*loc[:-1], name)) for name in difflib.get_close_matches(leaf, beside, n=1)]
    close = close or [key for key in _known_keys(UpstreamFile) if key.rpartition(".")[2] == leaf]
    return f"did you mean {close[0]}?" if close else f"allowed: {', '.join(beside)}"


def _known_keys(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """All dotted keys of a section, in order; an entry of a list has no number."""
    for name, field in model.model_fields.items():
        yield prefix + name
        inner = _model_in(field.annotation)
        if inner is not None:
            yield from _known_keys(inner, f"{prefix}{name}.")


def _field_at(loc: Sequence[str | int]) -> FieldInfo:
    """The form's field at a path of keys; numbers of list entries, and keys that are the user's, lead nowhere else."""
    field = FieldInfo(annotation=UpstreamFile)
    for part in loc:
        model = _model_in(field.annotation)
        if model is not None and part in model.model_fields:
            field = model.model_fields[part]
    return field


def _fields_at(loc: Sequence[str | int]) -> dict[str, FieldInfo]:
    """The fields of the section at a path of keys, by name."""
    model = _model_in(_field_at(loc).annotation)
    return {} if model is None else model.model_fields


def _model_in(annotation: object) -> type[BaseModel] | None:
    """The model inside an annotation such as `list[Model] | None`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next(filter(None, map(_model_in, get_args(annotation))), None)


def _names_in(annotation: object) -> tuple[object, ...]:
    """The names that an annotation such as `list[Literal[...]] | None` lists."""
    if get_origin(annotation) is Literal:
        return get_args(annotation)
    return next(filter(None, map(_names_in, get_args(annotation))), ())
