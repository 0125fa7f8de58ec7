"""What stands in a `dataset.json`, before it is believed: its JSON, its checksum, and whether it can be so.

Formats: 1, of a data set of the catalogue, and 2, of own images, have no checksum; 3 has the same keys for both, and
one over all others. A data set of the catalogue is compared with the catalogue, too, whatever its checksum says: then a
newer program that knows better notices. Without its checksum, one of own images is whatever its manifest says.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import AfterValidator

from mixmo_fast.files import open_regular
from pipelines.datasets.catalog import DatasetInfo

if TYPE_CHECKING:
    from pipelines.datasets.store import Dataset

FORMAT_VERSION = 3
CHECKSUM = "manifest_sha256"
"""The key of the checksum over all other keys."""

MOST_CLASSES = 100_000
_MOST_BYTES = 1 << 27  # names of so many classes, and more
_LONGEST_TEXT = 2000

# What is the catalogue's alone; a title is for people, and may be worded better.
_KNOWN = ("classes", "class_names", "height", "width", "channels", "mean", "std", "crop_padding", "flip")


def _printable(text: str) -> str:
    if len(text) > _LONGEST_TEXT:
        raise ValueError(f"found {len(text):,} characters, allowed: up to {_LONGEST_TEXT:,}")
    if not text.isprintable():
        raise ValueError("allowed: one line of characters that can be printed")
    return text


Text = Annotated[str, AfterValidator(_printable)]
"""A name that a message, a table or a page can have: one line, and nothing that a terminal obeys."""


def fields_sha256(fields: dict[str, object]) -> str:
    """The checksum of a manifest's keys and values, in any order, however they are laid out."""
    return hashlib.sha256(json.dumps(fields, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def read_fields(path: Path) -> tuple[dict[str, object], bool]:
    """The keys and values of a manifest, without its checksum.

    Returns:
        They, and whether they are those that the checksum was made of; true where there is none.

    Raises:
        OSError: The file cannot be read, or is none.
        ValueError: It is no JSON object of a format that is known, in words.
    """
    with open_regular(path) as file:
        content = file.read(_MOST_BYTES + 1)
    if len(content) > _MOST_BYTES:
        raise ValueError(f"more than {_MOST_BYTES:,} bytes, which no manifest has")
    try:
        fields = json.loads(content.decode(), object_pairs_hook=_each_once)
    except (ValueError, RecursionError) as error:
        twice = f" ({error})" if isinstance(error, _Twice) else ""
        raise ValueError(f"not valid JSON{twice}") from error
    version = fields.get("format") if isinstance(fields, dict) else None
    if version not in range(1, FORMAT_VERSION + 1):
        raise ValueError(f"format version {version!r:.60}, this program reads 1 to {FORMAT_VERSION}")
    checksum = fields.pop(CHECKSUM, None)
    try:
        sha256 = fields_sha256(fields)
    except RecursionError as error:  # writing may nest less deeply than reading does
        raise ValueError("not valid JSON") from error
    return fields, checksum in (None, sha256)


class _Twice(ValueError):
    """A key that stands twice: readers disagree which of them counts."""


def _each_once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise _Twice(f"{most_frequent(key for key, _ in pairs)!r:.60} stands there twice")
    return fields


def most_frequent(names: Iterable[str]) -> str:
    """The name that stands there most often."""
    return Counter(names).most_common(1)[0][0]


def difference(dataset: "Dataset", info: DatasetInfo) -> str | None:
    """In what a data set is not the one of the catalogue whose name it has, in words; None: in nothing.

    Numbers of images are those of the catalogue only where the originals were the published ones.
    """
    if dataset.kind is not None:
        return f"describes own images, which need another --name than that of {info.title}"
    for field in (*_KNOWN, *(("train_images", "test_images") if dataset.verified else ())):
        found, known = getattr(dataset, field), getattr(info, field)
        if field == "class_names" and len(found) == len(known):
            for number, (name, right) in enumerate(zip(found, known, strict=True)):
                if name != right:
                    return f"class_names.{number} {name!r:.60} is not {right!r} of {info.name}"
        if found != known:
            return f"{field} {json.dumps(found)[:200]} is not {json.dumps(known)[:200]} of {info.name}"
    return None
