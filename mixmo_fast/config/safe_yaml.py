"""A small, safe part of YAML: one document of mappings, lists and scalars, capped in size and depth.

No anchors, aliases, tags or duplicate keys. Values are made straight from the parser's events, so nothing of PyYAML's
YAML 1.1 guessing is left: unquoted scalars mean what YAML 1.2 says (`5e-4` is a number, `yes` is text), and spellings
that YAML versions read differently (`010`, `1_000`, `1:30`, `0x10`) are refused.
"""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from mixmo_fast.errors import ConfigError, shorten

MAX_BYTES = 64 * 1024
MAX_DEPTH = 8
MAX_NUMBER_LENGTH = 64

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


_Event = Any
"""One of `yaml.Event`, whose kinds have attributes of their own."""


def read_text(path: Path) -> str:
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


def read_yaml(text: str, name: str, loc: tuple = ()) -> object:
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


def _read_document(events: Iterator[_Event], name: str, loc: tuple) -> object:
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


def _read_node(event: _Event, events: Iterator[_Event], name: str, loc: tuple) -> object:
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
        items: list[object] = []
        while not isinstance(item := next(events), yaml.SequenceEndEvent):
            items.append(_read_node(item, events, name, (*loc, len(items))))
        return items
    mapping: dict[str | int, object] = {}
    while not isinstance(start := next(events), yaml.MappingEndEvent):
        if isinstance(start, yaml.CollectionStartEvent):
            raise _at(start, name, loc, "found a list or mapping as a key, allowed: a word or a whole number")
        key = _read_node(start, events, name, loc)
        if not isinstance(key, str | int) or isinstance(key, bool):
            raise _at(start, name, loc, f"found the key {show(key)}, allowed: a word or a whole number")
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
            raise _at(event, name, loc, f"found {shorten(text)}, {what}")
    if not _FLOAT.fullmatch(text):
        return text
    return int(text) if _INT.fullmatch(text) else float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))


def _at(event: _Event, name: str, loc: Sequence, text: str) -> ConfigError:
    """An error at an event of the file: name, line and, inside a mapping, the dotted key."""
    dotted = f"{dotted_path(loc)}: " if loc else ""
    return ConfigError(f"{name}, line {event.start_mark.line + 1}: {dotted}{text}")


def dotted_path(loc: Sequence[str | int]) -> str:
    """A path of keys as one printable word: `network.width`."""
    return ".".join(shorten(str(part)) for part in loc)


def show(value: object) -> str:
    """A value that was found, as a person would write it in YAML, shortened."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    return shorten(repr(value))
