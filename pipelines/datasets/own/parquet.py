"""Own images as parquet files, as Hugging Face's datasets exports them.

Images are a column of structs with `bytes` (or, where those are none, the `path` of a file beside the parquet file), or
of plain binary values; labels a column of whole numbers, whose names the schema's metadata may tell, or of text. A name
that begins with a split's word says which split a file is. Images are read a few at a time. Legend: N images.
"""

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mixmo_fast.errors import DataError
from pipelines.datasets.own.listing import Found, Original, Part, shown
from pipelines.datasets.own.splitting import split_of_file

_ROWS = 64  # read at once


@dataclass(frozen=True)
class _Columns:
    """Which columns hold what, and what numbered labels mean."""

    image: str
    label: str
    names: tuple[str, ...] | None


def read_parquet(files: Sequence[Path]) -> Found:
    """Lists the images of parquet files, in their order.

    Raises:
        DataError: pyarrow is missing, a file cannot be read, or it is not clear which columns hold images and labels.
    """
    labels: dict[str, list] = {}
    places: dict[str, list[tuple[Path, str]]] = {}
    told: dict[tuple[str, ...] | None, Path] = {}
    for path in files:
        with _opened(path) as file:
            columns = _find_columns(path, file.schema_arrow)
            told.setdefault(columns.names, path)
            word = split_of_file(path)
            found = file.read(columns=[columns.label]).column(0).to_pylist()
        if None in found:
            raise DataError(f"{path}: {columns.label}: row {found.index(None)} has no label")
        labels.setdefault(word, []).extend(found)
        places.setdefault(word, []).append((path, columns.image))
    if len(told) > 1:
        one, other, *_ = told.values()
        raise DataError(f"{other}: tells other names of classes than {one}")
    parts = {word: _part(labels[word], places[word]) for word in labels}
    return Found("parquet", parts, next(iter(told)))


def _part(labels: list, places: list[tuple[Path, str]]) -> Part:
    def originals(wanted: np.ndarray) -> Iterator[Original]:
        start = 0
        for path, column in places:
            with _opened(path) as file:
                for group in range(file.num_row_groups):
                    end = start + file.metadata.row_group(group).num_rows
                    inside = wanted[np.searchsorted(wanted, start) : np.searchsorted(wanted, end)] - start
                    if len(inside):
                        yield from _of_group(path, file, group, column, inside)
                    start = end

    return Part(labels, originals)


def _of_group(path: Path, file: Any, group: int, column: str, wanted: np.ndarray) -> Iterator[Original]:
    start = 0
    for batch in file.iter_batches(_ROWS, row_groups=[group], columns=[column]):
        end = start + len(batch)
        for row in wanted[np.searchsorted(wanted, start) : np.searchsorted(wanted, end)]:
            yield _original(path, f"{path}: row {row} of row group {group}", batch.column(0)[int(row - start)].as_py())
        start = end


def _original(path: Path, name: str, value: Any) -> Original:
    content = value.get("bytes") if isinstance(value, dict) else value
    if content is None and isinstance(value, dict) and value.get("path"):
        return Original(name, os.path.join(path.parent, value["path"]))  # noqa: PTH118
    return Original(name, content=content or b"")


def _find_columns(path: Path, schema: Any) -> _Columns:
    import pyarrow.types as types

    features = _features(schema)
    images, labels = [], []
    for field in schema:
        kind, feature = field.type, features.get(field.name, {}).get("_type")
        is_struct = types.is_struct(kind) and kind.get_field_index("bytes") >= 0
        if feature == "Image" or is_struct or types.is_binary(kind) or types.is_large_binary(kind):
            images.append(field.name)
        elif types.is_integer(kind) or types.is_string(kind) or types.is_large_string(kind):
            labels.append(field.name)
    classes = [name for name in labels if features.get(name, {}).get("_type") == "ClassLabel"]
    image = _choose(path, "image", images, [], ("image", "img"), schema)
    label = _choose(path, "label", labels, classes, ("label", "labels"), schema)
    names = features.get(label, {}).get("names") or None
    if isinstance(names, dict) and all(key.isascii() and key.isdigit() for key in names):
        names = [names[key] for key in sorted(names, key=int)]
    if names is not None and not (isinstance(names, list) and all(isinstance(name, str | int) for name in names)):
        raise DataError(
            f"{path}: {shown(label)}: names of classes: found {shown(str(names))}, allowed: a list of names"
        )
    return _Columns(image, label, tuple(map(str, names)) if names else None)


def _choose(
    path: Path, what: str, candidates: list[str], marked: list[str], usual: tuple[str, ...], schema: Any
) -> str:
    """The column that is called so, else the one that is marked, else the only one."""
    named = [name for name in usual if name in candidates]
    for choice in (named[:1], marked, candidates):
        if len(choice) == 1:
            return choice[0]
    found = f"{', '.join(candidates)} may be it" if candidates else f"found {', '.join(schema.names) or 'no columns'}"
    raise DataError(f"{path}: which column is the {what}? {shown(found)}, allowed: one that is called {what}")


def _features(schema: Any) -> dict[str, dict]:
    """What Hugging Face's datasets keeps of the columns: name -> description."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        return {name: one for name, one in features.items() if isinstance(one, dict)}
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError):
        return {}


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """A parquet file; what pyarrow says of a damaged one becomes one line."""
    try:
        import pyarrow as pa
        from pyarrow.parquet import ParquetFile
    except ImportError:
        raise DataError("parquet files need pyarrow: `pip install 'mixmo-fast[parquet]'`") from None
    try:
        with ParquetFile(path) as file:
            yield file
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:  # the last, of a column's name
        reason = " ".join(str(error).split())[:200]
        raise DataError(f"{path}: cannot be read as parquet ({reason})") from error
