"""From YAML text and overrides to a checked `Config`, and back; every fault is one line that a user can mend.

`--set a.b=value` reads its value by the same rules as a file. Problems that pydantic finds are retold with the file,
the dotted key, what was found and what is allowed.
"""

import copy
import difflib
import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from mixmo_fast.config.safe_yaml import dotted_path, read_text, read_yaml, show
from mixmo_fast.config.schema import MOST_SEED, Config
from mixmo_fast.config.words import allowed_in_words, keys_of, known_keys
from mixmo_fast.errors import ConfigError, shorten

_MAPPING = ["schedule", "milestones"]
"""The one key whose own keys are the user's: `--set schedule.milestones.101=0.1` sets an entry."""

_THEIR_SECTIONS = {"model_wrapper", "training"}
_OUR_SECTIONS = {"network", "mixing", "msda", "batch", "optimizer", "schedule", "step"}

_UNKNOWN = ("extra_forbidden", "invalid_key")
"""Pydantic's names for a key that the schema does not have."""


def load_config(path: str | Path, overrides: Sequence[str] = (), notify: Callable[[str], None] | None = None) -> Config:
    """Reads a configuration file, applies overrides in order and checks the result.

    Args:
        path: a YAML file in UTF-8, at most 64 KiB; in this program's form, or in mixmo-pytorch's, which is translated.
        overrides: `a.b=value` each, as given to `--set`; keys of this program's form, whatever the file's is.
        notify: told of a translation, in one line.

    Raises:
        ConfigError: one line with the file or the override, the dotted key, what was found and what is
            allowed.
    """
    tree: Mapping[str, object] = read_tree(path)
    if is_upstream(tree):
        from mixmo_fast.config.upstream import from_upstream  # a model of all that their files may hold

        tree = from_upstream(tree, str(path)).tree
        if notify is not None:
            notify(
                f"{path}: a mixmo-pytorch configuration, translated; `mixmo-fast config import "
                f"{shlex.quote(str(path))} -o NEW.yaml` writes it in this program's form"
            )
    return check_config(apply_overrides(tree, overrides), str(path), overrides)


def is_upstream(tree: object) -> bool:
    """Whether a configuration read from YAML has the shape of mixmo-pytorch's: sections of theirs and none of ours."""
    if not isinstance(tree, dict):
        return False
    return not tree.keys().isdisjoint(_THEIR_SECTIONS) and tree.keys().isdisjoint(_OUR_SECTIONS)


def override(config: Config, overrides: Sequence[str]) -> Config:
    """A configuration with each `a.b=value` set, in order; a `ConfigError` as of `load_config`."""
    return check_config(apply_overrides(config.model_dump(), overrides), "configuration", overrides)


def seed_override(seed: int | None) -> list[str]:
    """What `--seed` sets, as overrides; a `ConfigError` of the option's name where a seed may not be so."""
    if seed is None:
        return []
    if not 0 <= seed <= MOST_SEED:
        raise ConfigError(f"--seed: found {shorten(str(seed), 80)}, allowed: {allowed_in_words(['seed'])}")
    return [f"seed={seed}"]


def read_tree(path: str | Path) -> dict[str, object]:
    """The plain mapping in a YAML file, of whatever form, not yet checked.

    Raises:
        ConfigError: one line with the file, when it cannot be read or is no mapping.
    """
    return _read_mapping(read_text(Path(path)), str(path))


def parse_config(text: str, name: str) -> Config:
    """Reads a configuration from text, for example one kept in a checkpoint.

    Args:
        text: YAML, as `to_yaml` writes it.
        name: where the text comes from, for messages.

    Raises:
        ConfigError: as `load_config`.
    """
    return check_config(_read_mapping(text, name), name)


def check_config(tree: Mapping[str, object], name: str, overrides: Sequence[str] = ()) -> Config:
    """Checks a plain mapping of sections against the schema.

    Args:
        tree: section name -> its keys and values.
        name: where the mapping comes from, for messages.
        overrides: those already applied to `tree`; a problem at one of their keys is reported as theirs.

    Raises:
        ConfigError: pydantic's first problem as one line, unknown keys first, with how many more there are.
    """
    try:
        return Config.model_validate(tree)
    except ValidationError as error:
        problems = sorted(error.errors(include_url=False), key=lambda problem: problem["type"] not in _UNKNOWN)
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise ConfigError(_tell(problems[0], name, overrides) + more) from None


def to_yaml(config: Config) -> str:
    """The configuration as YAML, all defaults spelled out, one section a line in the schema's order.

    `parse_config(to_yaml(config), name) == config`.
    """
    return "".join(yaml_line(key, value) for key, value in config.model_dump().items())


def yaml_line(key: str, value: object) -> str:
    """`key: value` as one line of YAML, mappings in flow style: `batch: {rows: 64, repetitions: 4}`."""
    dumped = yaml.safe_dump({key: value}, default_flow_style=True, sort_keys=False, width=float("inf"))
    return dumped.strip()[1:-1] + "\n"


def apply_overrides(tree: Mapping[str, object], overrides: Sequence[str]) -> dict[str, object]:
    """A copy of a configuration's plain mapping with each `a.b=value` set, in order.

    Setting a key of an absent section creates the section; a section set to null is removed, so that its
    default holds.

    Args:
        tree: section name -> its keys and values, as read from YAML, not yet checked.
        overrides: `a.b=value` each; the value is YAML.

    Raises:
        ConfigError: no `=`, an unknown dotted key, a value that is not YAML, or a key in what is no section.
    """
    changed = copy.deepcopy(dict(tree))
    for override in overrides:
        name = f"--set {shorten(override, 80)}"
        dotted, equals, text = override.partition("=")
        parts: list[Any] = dotted.strip().split(".")
        if not equals or not text.strip():
            raise ConfigError(f"{name}: allowed: key=value, such as network.width=10 or msda=null")
        if dotted.strip() not in known_keys() and parts[:-1] != _MAPPING:
            raise ConfigError(f"{name}: {shorten(dotted.strip())}: unknown key; {_nearest(parts)}")
        if parts[:-1] == _MAPPING and re.fullmatch("[1-9][0-9]{0,8}", parts[-1]):
            parts[-1] = int(parts[-1])
        _set(changed, parts, read_yaml(text, name, tuple(parts)), name)
    return changed


def _set(tree: dict, keys: list, value: object, name: str) -> None:
    """Sets one value in place, creating absent sections on the way; null takes a whole section out."""
    for depth, key in enumerate(keys[:-1], start=1):
        if tree.get(key) is None:
            tree[key] = {}
        tree = tree[key]
        if not isinstance(tree, dict):
            raise ConfigError(
                f"{name}: {dotted_path(keys[:depth])}: found {show(tree)} in the file, allowed: a section"
            )
    if value is None and len(keys) == 1:
        tree.pop(keys[0], None)
    else:
        tree[keys[-1]] = value


def _read_mapping(text: str, name: str) -> dict[str, object]:
    """The top-level mapping of a YAML text."""
    value = read_yaml(text, name)
    if not isinstance(value, dict):
        raise ConfigError(f"{name}: found {show(value)} at the top level, allowed: sections such as data, network")
    return value


def _tell(problem: Mapping[str, Any], name: str, overrides: Sequence[str]) -> str:
    """One problem in one line: where, dotted key, what was found, what is allowed."""
    loc, form = _without_form(tuple(problem["loc"]))
    if problem["type"].startswith("union_tag"):  # the key that says which form a section has
        key = problem["ctx"]["discriminator"].strip("'")
        loc = (*loc, key)
        found = f"found {show(problem['input'][key])}" if problem["type"] == "union_tag_invalid" else "missing"
        text = f"{found}, allowed: {allowed_in_words(loc)}"
    elif problem["type"] == "value_error":  # a rule of schema.py between keys, whose text starts with the key
        dotted, text = str(problem["ctx"]["error"]).split(": ", 1)
        loc = tuple(dotted.split("."))
    elif (
        form is not None and problem["type"] in _UNKNOWN and dotted_path(loc) in known_keys()
    ):  # of another form of the section
        text = f"found with {loc[0]}.kind {form}, allowed there: {', '.join(keys_of(str(loc[0]), form))}"
    elif problem["type"] in _UNKNOWN:
        text = f"unknown key; {_nearest([str(part) for part in loc])}"
    elif problem["type"] == "missing":
        text = f"missing, allowed: {allowed_in_words(loc)}"
    elif loc[-1] == "[key]":  # pydantic's mark for the key, not the value, of a mapping's entry
        loc = loc[:-1]
        text = f"found the key {show(problem['input'])}, allowed: {allowed_in_words(loc, as_key=True)}"
    else:
        text = f"found {show(problem['input'])}, allowed: {allowed_in_words(loc)}"
    for override in reversed(overrides):
        path = override.partition("=")[0].strip().split(".")
        if path == [str(part) for part in loc][: len(path)]:
            name = f"--set {shorten(override, 80)}"
            break
    return f"{name}: {dotted_path(loc)}: {text}"


def _without_form(loc: tuple[str | int, ...]) -> tuple[tuple[str | int, ...], str | None]:
    """A path of keys as a user writes it, and which form of a section pydantic has put into it, if it has several."""
    field = Config.model_fields.get(str(loc[0])) if loc else None
    if field is None or field.discriminator is None or len(loc) < 2:
        return loc, None
    return (loc[0], *loc[2:]), str(loc[1])


def _nearest(parts: Sequence[str]) -> str:
    """A hint for an unknown path of keys: the nearest known key, or the keys known beside it."""
    known = known_keys()
    parent, leaf = ".".join(parts[:-1]), parts[-1]
    beside = {key.rpartition(".")[2]: key for key in known if key.rpartition(".")[0] == parent}
    close = [beside[name] for name in difflib.get_close_matches(leaf, beside, n=1)]
    close = close or [key for key in known if key.rpartition(".")[2] == leaf]
    if not close and not beside:
        close = difflib.get_close_matches(".".join(parts), known, n=1)
    return f"did you mean {close[0]}?" if close else f"allowed: {', '.join(beside.values() or known)}"
