"""What all records of a run folder have in common: read with tolerance, written as they were filled in.

A file may be of an older version, so every key that a reader can do without may be missing; what is there has to be
of its type and shape. Unknown keys are left for others.
"""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from mixmo_fast.errors import DataError, MixmoError
from mixmo_fast.files import NotRegular, open_regular, write_text


class Record(BaseModel):
    """A JSON object; keys are written in the order of the fields."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready: what was filled in or read; a key that nobody gave a value is none of the file's."""
        return self.model_dump(mode="json", exclude_unset=True)


Kind = TypeVar("Kind", bound=Record)


def read_record(path: Path, kind: type[Kind]) -> Kind | None:
    """A record from its file; None where there is none.

    Raises:
        MixmoError: When the file is unreadable, half-written or of another form; one line that names it.
    """
    text = read_text(path)
    return None if text is None else parse_record(text, kind, str(path))


def write_record(path: Path, record: Record, indent: int | None = None) -> None:
    """Writes a record, whole or not at all.

    Raises:
        MixmoError: When it cannot be written; the old file is untouched.
    """
    write_text(path, json.dumps(record.as_dict(), indent=indent) + "\n")


def parse_record(text: str, kind: type[Kind], where: str) -> Kind:
    """A record from its JSON.

    Raises:
        DataError: When it is of another form; one line that begins with `where`.
    """
    try:
        return kind.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = "".join(f"{part}: " for part in [".".join(map(str, first["loc"]))] if part)
        problem = first["msg"].removeprefix("Value error, ")
        found = "" if first["type"] in ("json_invalid", "value_error", "missing") else f", found {first['input']!r:.60}"
        raise DataError(f"{where}: {key}{problem}{found}; the file is damaged or of another version") from None


def parse_lines(lines: Iterable[str], kind: type[Kind], path: Path) -> tuple[Kind, ...]:
    """Records from the lines of a file; errors as `parse_record`, naming the line."""
    return tuple(parse_record(line, kind, f"{path}: line {number}") for number, line in enumerate(lines, start=1))


def read_text(path: Path) -> str | None:
    """The text of a file; None where there is none.

    Raises:
        MixmoError: When it cannot be read.
    """
    content = read_bytes(path)
    return None if content is None else decode(content, path)


def decode(content: bytes, path: Path) -> str:
    """The text of a file's content; a `DataError` that names it where it is none."""
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 at byte {error.start}; the file is damaged") from None


def read_bytes(path: Path) -> bytes | None:
    """The content of a regular file; None where there is none, and a `MixmoError` where it cannot be read."""
    try:
        with open_regular(path) as file:
            return file.read()
    except FileNotFoundError:
        return None
    except NotRegular:
        raise MixmoError(f"{path}: found a pipe or a device, allowed: a regular file; remove it") from None
    except OSError as error:
        raise MixmoError(f"{path}: cannot read: {error.strerror or error}") from error
