"""From YAML text and overrides to a checked `Config`, and back; every fault is one line that a user can mend.

The YAML read here is a small, safe part of the language: one document of mappings, lists and scalars, no
anchors, aliases, tags or duplicate keys, capped in size and depth. Values are made straight from the
parser's events, so nothing of PyYAML's YAML 1.1 guessing is left: unquoted scalars mean what YAML 1.2 says
(`5e-4` is a number, `yes` is text), and spellings that YAML versions read differently (`010`, `1_000`,
`1:30`, `0x10`) are refused. `--set a.b=value` reads its value by the same rules. Problems that pydantic
finds are retold with the file, the dotted key, what was found and what is allowed.
"""

import copy
import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import yaml
from pydantic import ValidationError

from mixmo_fast.config.schema import Config, allowed_in_words, known_keys
from mixmo_fast.errors import ConfigError

MAX_BYTES = 64 * 1024
MAX_DEPTH = 8
MAX_NUMBER_LENGTH = 64

_MAPPING = ["schedule", "milestones"]
"""The one key whose own keys are the user's: `--set schedule.milestones.101=0.1` sets an entry."""

_UNKNOWN = ("extra_forbidden", "invalid_key")
"""Pydantic's names for a key that the schema does not have."""

_NUMBERS_READ_DIFFERENTLY = (
    (re.compile(r"[-+]?0[0-9][0-9.eE+-]*"), "a number with a leading zero; write it without"),
    (re.compile(r"[-+]?0[xXoObB][0-9a-fA-F_]+"), "a number in base 16, 8 or 2; write it in decimal"),
    (re.compile(r"[-+]?[0-9][0-9_]*_[0-9_.eE+-]*"), "a number with underscores; write it without"),
    (re.compile(r"[-+]?[0-9]+(:[0-9]{1,2})+(\.[0-9]*)?"), "a number in base 60; write it in decimal"),
)
_INT = re.compile(r"[-+]?[0-9]+")
_FLOAT = re.compile(r"[-+]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_WORDS = {"null": None, "Null": None, "NULL": None, "~": None, "": None} | {
    word: word.lower() == "true" for word in ("true", "True", "TRUE", "false", "False", "FALSE")
}


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> Config:
    """Reads a configuration file, applies overrides in order and checks the result.

    Args:
        path: a YAML file in UTF-8, at most 64 KiB.
        overrides: `a.b=value` each, as given to `--set`.

    Raises:
        ConfigError: one line with the file or the override, the dotted key, what was found and what is
            allowed.
    """
    tree = _read_mapping(_read_text(Path(path)), str(path))
    return check_config(apply_overrides(tree, overrides), str(path), overrides)


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
        name = f"--set {_short(override, 80)}"
        dotted, equals, text = override.partition("=")
        parts = dotted.strip().split(".")
        if not equals or not text.strip():
            raise ConfigError(f"{name}: allowed: key=value, such as network.width=10 or msda=null")
        if dotted.strip() not in known_keys() and parts[:-1] != _MAPPING:
            raise ConfigError(f"{name}: {_short(dotted.strip())}: unknown key; {_nearest(parts)}")
        if parts[:-1] == _MAPPING and re.fullmatch("[1-9][0-9]{0,8}", parts[-1]):
            parts[-1] = int(parts[-1])
        _set(changed, parts, _read_yaml(text, name, tuple(parts)), name)
    return changed


def _set(tree: dict, keys: list, value: object, name: str) -> None:
    """Sets one value in place, creating absent sections on the way; null takes a whole section out."""
    for depth, key in enumerate(keys[:-1], start=1):
        if tree.get(key) is None:
            tree[key] = {}
        tree = tree[key]
        if not isinstance(tree, dict):
            raise ConfigError(f"{name}: {_dotted(keys[:depth])}: found {_show(tree)} in the file, allowed: a section")
    if value is None and len(keys) == 1:
        tree.pop(keys[0], None)
    else:
        tree[keys[-1]] = value


def _read_text(path: Path) -> str:
    """The text of a file, refused where it is missing, no file, too large or not UTF-8."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except IsADirectoryError:
        raise ConfigError(f"{path}: found a directory, allowed: a YAML file") from None
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file; allowed: the path of a YAML file") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    if len(data) > MAX_BYTES:
        raise ConfigError(f"{path}: found more than {MAX_BYTES} bytes, allowed: at most that for a configuration")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 text at byte {error.start}; save it as UTF-8") from None


def _read_mapping(text: str, name: str) -> dict[str, object]:
    """The top-level mapping of a YAML text."""
    value = _read_yaml(text, name)
    if not isinstance(value, dict):
        raise ConfigError(f"{name}: found {_show(value)} at the top level, allowed: sections such as data, network")
    return value


def _read_yaml(text: str, name: str, loc: tuple = ()) -> object:
    """The value of the one document in `text`; `loc` is the path of keys that it is for, for messages."""
    if len(text.encode("utf-8", "surrogatepass")) > MAX_BYTES:
        raise ConfigError(f"{name}: found more than {MAX_BYTES} bytes, allowed: at most that for a configuration")
    try:
        return _read_document(yaml.parse(text, Loader=yaml.SafeLoader), name, loc)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{name}, line {mark.line + 1}" if mark else name
        problem = " ".join((error.problem or error.context or "").split())
        raise ConfigError(f"{where}: not valid YAML: {problem}") from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise ConfigError(f"{name}, line {line}: not valid YAML: {error.reason}") from None
    except (ValueError, OverflowError) as error:  # PyYAML lets chr() fail on escapes such as "\UFFFFFFFF"
        raise ConfigError(f"{name}: not valid YAML: {' '.join(str(error).split())}") from None


def _read_document(events: Iterator[yaml.Event], name: str, loc: tuple) -> object:
    """The value of a stream that holds exactly one document and no directives."""
    next(events)  # the start of the stream
    start = next(events)
    if isinstance(start, yaml.StreamEndEvent):
        raise ConfigError(f"{name}: is empty, allowed: a value in YAML")
    if start.version or start.tags:
        raise _at(start, name, (), "found a % directive, allowed: none")
    value = _read_node(next(events), events, name, loc)
    next(events)  # the end of the document
    after = next(events)
    if not isinstance(after, yaml.StreamEndEvent):
        raise _at(after, name, (), "found a second document, allowed: one")
    return value


def _read_node(event: yaml.Event, events: Iterator[yaml.Event], name: str, loc: tuple) -> object:
    """The value that starts at `event`; `loc` is its path of keys, for messages."""
    if isinstance(event, yaml.AliasEvent) or event.anchor is not None:
        raise _at(event, name, loc, "found an anchor or alias (& or *), allowed: write the value out")
    if event.tag is not None:
        raise _at(event, name, loc, "found a tag (!), allowed: none")
    if isinstance(event, yaml.ScalarEvent):
        return _read_scalar(event, name, loc) if event.style is None else event.value
    if len(loc) >= MAX_DEPTH:
        raise _at(event, name, loc, f"nested deeper than {MAX_DEPTH} levels")
    if isinstance(event, yaml.SequenceStartEvent):
        items = []
        while not isinstance(item := next(events), yaml.SequenceEndEvent):
            items.append(_read_node(item, events, name, (*loc, len(items))))
        return items
    mapping: dict[str | int, object] = {}
    while not isinstance(start := next(events), yaml.MappingEndEvent):
        if isinstance(start, yaml.CollectionStartEvent):
            raise _at(start, name, loc, "found a list or mapping as a key, allowed: a word or a whole number")
        key = _read_node(start, events, name, loc)
        if type(key) not in (str, int):
            raise _at(start, name, loc, f"found the key {_show(key)}, allowed: a word or a whole number")
        if key in mapping:
            raise _at(start, name, (*loc, key), "given twice; keep one")
        mapping[key] = _read_node(next(events), events, name, (*loc, key))
    return mapping


def _read_scalar(event: yaml.ScalarEvent, name: str, loc: tuple) -> object:
    """The value of an unquoted scalar, by YAML 1.2's core schema less the spellings that mislead."""
    text = event.value
    if text in _WORDS:
        return _WORDS[text]
    if len(text) > MAX_NUMBER_LENGTH:
        return text
    for pattern, what in _NUMBERS_READ_DIFFERENTLY:
        if pattern.fullmatch(text):
            raise _at(event, name, loc, f"found {_short(text)}, {what}")
    if not _FLOAT.fullmatch(text):
        return text
    return int(text) if _INT.fullmatch(text) else float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))


def _at(event: yaml.Event, name: str, loc: Sequence, text: str) -> ConfigError:
    """An error at an event of the file: name, line and, inside a mapping, the dotted key."""
    dotted = f"{_dotted(loc)}: " if loc else ""
    return ConfigError(f"{name}, line {event.start_mark.line + 1}: {dotted}{text}")


def _tell(problem: dict, name: str, overrides: Sequence[str]) -> str:
    """One problem in one line: where, dotted key, what was found, what is allowed."""
    loc = tuple(problem["loc"])
    if problem["type"] == "value_error":  # a rule of schema.py between keys, whose text starts with the key
        dotted, text = str(problem["ctx"]["error"]).split(": ", 1)
        loc = tuple(dotted.split("."))
    elif problem["type"] in _UNKNOWN:
        text = f"unknown key; {_nearest([str(part) for part in loc])}"
    elif problem["type"] == "missing":
        text = f"missing, allowed: {allowed_in_words(loc)}"
    elif loc[-1] == "[key]":  # pydantic's mark for the key, not the value, of a mapping's entry
        loc = loc[:-1]
        text = f"found the key {_show(problem['input'])}, allowed: {allowed_in_words(loc, as_key=True)}"
    else:
        text = f"found {_show(problem['input'])}, allowed: {allowed_in_words(loc)}"
    for override in reversed(overrides):
        path = override.partition("=")[0].strip().split(".")
        if path == [str(part) for part in loc][: len(path)]:
            name = f"--set {_short(override, 80)}"
            break
    return f"{name}: {_dotted(loc)}: {text}"


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


def _dotted(loc: Sequence[str | int]) -> str:
    """A path of keys as one printable word: `network.width`."""
    return ".".join(_short(str(part)) for part in loc)


def _show(value: object) -> str:
    """A value that was found, as a person would write it in YAML, shortened."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    return _short(repr(value))


def _short(text: str, limit: int = 60) -> str:
    """The text on one line, cut after `limit` characters."""
    text = text if text.isprintable() else repr(text)
    return text if len(text) <= limit else text[:limit] + "..."
