"""Own images as a table: CSV with a header, or a JSON object a line, with `path`, `label` and perhaps `split`.

Paths are relative to the table. In CSV every label is a name; in JSON a whole number is the number of a class, and a
text its name. Other columns are left alone. Legend: N images.
"""

import csv
import json
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from mixmo_fast.errors import DataError
from pipelines.datasets.own.listing import TEST, TRAIN, Found, Original, Part, shown

CSV_SUFFIXES = (".csv",)
JSON_SUFFIXES = (".jsonl", ".ndjson")

_COLUMNS = ("path", "label")
_Row = tuple[int, object, object, object]  # line, path, label, split


def read_table(table: Path) -> Found:
    """Lists the images of a table, in its order.

    Raises:
        DataError: It cannot be read, lacks a column or a value, or has a path twice; the line has the table's line.
    """
    rows = _csv_rows(table) if table.suffix.lower() in CSV_SUFFIXES else _json_rows(table)
    labels: dict[str, list] = {}
    paths: dict[str, list[str]] = {}
    line_of: dict[str, int] = {}
    try:
        for line, path, label, split in rows:
            if not isinstance(path, str) or not path or "\0" in path:
                raise DataError(f"{table}: line {line}: path: found {_found(path)}, allowed: the name of a file")
            if type(label) not in (str, int) or label == "":
                raise DataError(
                    f"{table}: line {line}: label: found {_found(label)}, allowed: a name or a whole number"
                )
            word = "" if split is None else split
            if word != "" and word not in (*TRAIN, *TEST):
                words = ", ".join((*TRAIN, *TEST))
                raise DataError(f"{table}: line {line}: split: found {_found(split)}, allowed: {words}")
            place = os.path.normpath(path)
            if line_of.setdefault(place, line) != line:
                raise DataError(f"{table}: line {line}: path: {shown(path)} is on line {line_of[place]} already")
            labels.setdefault(str(word), []).append(label)
            paths.setdefault(str(word), []).append(place)
    except OSError as error:
        raise DataError(f"{table}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{table}: not UTF-8 text") from error
    if not labels:
        raise DataError(f"{table}: no images in it, allowed: a line for each")
    return Found("table", {word: _part(table.parent, labels[word], paths[word]) for word in labels})


def _part(folder: Path, labels: list, paths: list[str]) -> Part:
    def originals(wanted: np.ndarray) -> Iterator[Original]:
        return (Original(paths[index], os.path.join(folder, paths[index])) for index in wanted)  # noqa: PTH118

    return Part(labels, originals)


def _csv_rows(table: Path) -> Iterator[_Row]:
    with table.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file)
        try:
            header = [name.strip() for name in next(reader, [])]
            if not set(_COLUMNS) <= set(header) or len(set(header)) < len(header):
                found = shown(", ".join(header)) or "none"
                raise DataError(f"{table}: columns: found {found}, allowed: path, label and perhaps split, each once")
            places = [header.index(name) for name in _COLUMNS]
            split = header.index("split") if "split" in header else None
            for cells in reader:
                if not cells:  # an empty line
                    continue
                if len(cells) != len(header):
                    raise DataError(
                        f"{table}: line {reader.line_num}: found {len(cells)} values, allowed: {len(header)}, one for "
                        "each column"
                    )
                path, label = (cells[place] for place in places)
                yield reader.line_num, path, label.strip(), None if split is None else cells[split].strip()
        except csv.Error as error:
            raise DataError(f"{table}: line {reader.line_num}: not CSV ({error})") from error


def _json_rows(table: Path) -> Iterator[_Row]:
    with table.open(encoding="utf-8-sig") as file:
        for line, text in enumerate(file, 1):
            if not text.strip():
                continue
            try:
                values = json.loads(text)
            except (ValueError, RecursionError):
                values = None
            if not isinstance(values, dict):
                raise DataError(f"{table}: line {line}: not a JSON object")
            if not set(_COLUMNS) <= set(values):
                found = shown(", ".join(map(str, values))) or "none"
                raise DataError(f"{table}: line {line}: found {found}, allowed: path, label and perhaps split")
            yield line, values["path"], values["label"], values.get("split")


def _found(value: object) -> str:
    text = shown(str(value))
    return repr(text) if len(text) <= 100 else f"{text[:100]!r}..."
