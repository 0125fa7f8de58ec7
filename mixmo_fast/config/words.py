"""The schema in words, for messages that a person can act on: its dotted keys, and what each allows or holds."""

import types
from collections.abc import Sequence
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from mixmo_fast.config.schema import Config


def known_keys() -> list[str]:
    """All dotted keys in the schema's order: each section, followed by its keys."""
    keys = []
    for section, field in Config.model_fields.items():
        model = _without_none(field.annotation)
        names = model.model_fields if isinstance(model, type) and issubclass(model, BaseModel) else ()
        keys += [section, *(f"{section}.{name}" for name in names)]
    return keys


def allowed_in_words(loc: Sequence[str | int], as_key: bool = False) -> str:
    """What the schema allows at a path of keys, such as `a whole number at least 1 and at most 32`.

    Args:
        loc: the known keys from the top; the last may be an entry of a mapping such as schedule.milestones.
        as_key: describe that entry's key instead of its value.
    """
    model: Any = Config
    field = FieldInfo(annotation=Config)
    for part in loc:
        if get_origin(model) is dict:
            return _in_words(get_args(model)[0 if as_key else 1])
        if get_origin(model) is tuple:
            return _in_words(get_args(model)[0])
        field = model.model_fields[part]
        model = _without_none(field.annotation)
    return _in_words(model, field.metadata) + (" or null" if model is not field.annotation else "")


def in_one_line(value: object) -> str:
    """A section of a configuration as `{key: value, ...}`, or a value that stands for itself."""
    if isinstance(value, BaseModel):
        return "{" + ", ".join(f"{key}: {in_one_line(entry)}" for key, entry in value.model_dump().items()) + "}"
    return str(list(value) if isinstance(value, tuple) else value)


def _without_none(annotation: Any) -> Any:
    """The type without `| None`."""
    if isinstance(annotation, types.UnionType):
        return next(part for part in get_args(annotation) if part is not types.NoneType)
    return annotation


def _in_words(annotation: Any, constraints: Sequence[object] = ()) -> str:
    """A type and its bounds in words."""
    if get_origin(annotation) is Annotated:
        annotation, field = get_args(annotation)
        return _in_words(annotation, field.metadata)
    if get_origin(annotation) is Literal:
        *names, last = ({True: "true", False: "false"}.get(value, value) for value in get_args(annotation))
        return f"{', '.join(names)} or {last}"
    if get_origin(annotation) is tuple:
        return f"a list of two numbers, each {_in_words(get_args(annotation)[0]).removeprefix('a number ')}"
    if get_origin(annotation) is dict:
        return "a mapping from {} to {}".format(*map(_in_words, get_args(annotation)))
    if issubclass(annotation, BaseModel):
        return f"a section with {', '.join(annotation.model_fields)}"
    if annotation is str:
        return "a name of lowercase letters, digits and underscores, a letter first"
    word = {bool: "true or false", int: "a whole number", float: "a number"}[annotation]
    bounds = {side: getattr(c, side) for c in constraints for side in ("ge", "gt", "le", "lt") if hasattr(c, side)}
    if bounds.keys() == {"ge", "le"}:
        return f"{word} from {bounds['ge']} to {bounds['le']}"
    phrases = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}
    return " ".join([word, " and ".join(f"{phrases[side]} {bound}" for side, bound in bounds.items())]).strip()
