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
        names = dict.fromkeys(name for model in _sections(field.annotation) for name in model.model_fields)
        keys += [section, *(f"{section}.{name}" for name in names)]
    return keys


def keys_of(section: str, form: str) -> list[str]:
    """The keys of that form of a section which its first key, the `kind`, says."""
    forms = _sections(Config.model_fields[section].annotation)
    return next([*one.model_fields] for one in forms if form in get_args(one.model_fields["kind"].annotation))


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
        fields = [form.model_fields[str(part)] for form in _sections(model) if part in form.model_fields]
        field, model = fields[0], _without_none(fields[0].annotation)
        if len(fields) > 1 and get_origin(model) is Literal:  # what tells the forms of a section apart
            field = FieldInfo(annotation=Literal[tuple(name for one in fields for name in get_args(one.annotation))])
            model = field.annotation
    return _in_words(model, field.metadata) + (" or null" if model is not field.annotation else "")


def in_one_line(value: object) -> str:
    """A section of a configuration as `{key: value, ...}`, or a value that stands for itself."""
    if isinstance(value, BaseModel):
        return "{" + ", ".join(f"{key}: {in_one_line(entry)}" for key, entry in value.model_dump().items()) + "}"
    if isinstance(value, bool) or value is None:
        return {None: "null", True: "true", False: "false"}[value]
    return str(list(value) if isinstance(value, tuple) else value)


def differences(section: str, has: object, asked: object) -> str:
    """How two values of a section differ: `optimizer.lr: it has 0.1, now 0.2`, for each of its keys that does."""
    if type(has) is not type(asked) or not isinstance(has, BaseModel):
        return f"{section}: it has {in_one_line(has)}, now {in_one_line(asked)}"
    pairs = ((key, getattr(has, key), getattr(asked, key)) for key in type(has).model_fields)
    return ", ".join(differences(f"{section}.{key}", one, other) for key, one, other in pairs if one != other)


def _without_none(annotation: Any) -> Any:
    """The type without `| None`."""
    if isinstance(annotation, types.UnionType):
        parts = [part for part in get_args(annotation) if part is not types.NoneType]
        return annotation if len(parts) > 1 else parts[0]
    return annotation


def _sections(annotation: Any) -> list[type[BaseModel]]:
    """The forms that a section may have; none for what is no section."""
    parts = get_args(annotation) if isinstance(annotation, types.UnionType) else (annotation,)
    return [part for part in parts if isinstance(part, type) and issubclass(part, BaseModel)]


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
    if forms := _sections(annotation):
        return "a section with " + ", or with ".join(", ".join(form.model_fields) for form in forms)
    if annotation is str:
        dots = any("." in (getattr(constraint, "pattern", None) or "") for constraint in constraints)
        return f"a name of lowercase letters, digits{', dots' if dots else ''} and underscores, a letter first"
    word = {bool: "true or false", int: "a whole number", float: "a number"}[annotation]
    bounds = {side: getattr(c, side) for c in constraints for side in ("ge", "gt", "le", "lt") if hasattr(c, side)}
    if bounds.keys() == {"ge", "le"}:
        return f"{word} from {bounds['ge']} to {bounds['le']}"
    phrases = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}
    return " ".join([word, " and ".join(f"{phrases[side]} {bound}" for side, bound in bounds.items())]).strip()
