"""Claims about originals that are damaged, or made to do harm: one line refuses them, whatever reads them."""

import io
import json
import os
import tarfile
import tracemalloc
from pathlib import Path

import numpy as np
import originals
import own_images
import pytest
from own_images import convert

from mixmo_fast.errors import DataError
from pipelines.datasets.catalog import DATASETS
from pipelines.datasets.cifar_c import CORRUPTIONS, open_cifar_c
from pipelines.datasets.own import folders
from pipelines.datasets.own.listing import shown
from pipelines.datasets.sources import read_original
from pipelines.datasets.sources_cifar import parse_batch


def refused(path: Path, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        convert(path, path.parent / "data")
    assert str(caught.value).isprintable() and len(str(caught.value)) < 2000


def tar_with(name: str, headers: dict[str, str]) -> bytes:
    """An archive of one member, of whose headers some are not what they should be."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as tar:
        member = tarfile.TarInfo(name)
        member.pax_headers = headers
        tar.addfile(member, io.BytesIO())
    return file.getvalue()


@pytest.mark.parametrize("place", ["train-0.tar", "train.parquet", "images.csv", "images.jsonl"])
@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.symlink_to("/dev/zero")], ids=["pipe", "device"])
def test_what_has_no_end_is_not_read(tmp_path, make, place):
    (tmp_path / "in").mkdir()
    make(tmp_path / "in" / place)
    refused(tmp_path / "in" / place, r"in/[^/]+: found a pipe or a device, allowed: a folder, or a file on a disk$")
    if place.endswith((".tar", ".parquet")):
        refused(tmp_path / "in", f"in/{place}: found a pipe or a device")


def test_links_to_themselves_are_images_that_cannot_be_read_or_left_alone(tmp_path):
    folder = own_images.write_folders(tmp_path / "in", ("",))
    (folder / "bee" / "loop.png").symlink_to("loop.png")
    refused(folder, r"1 of 13 images cannot be read: .*loop\.png \(Too many levels of symbolic links\)")
    notes: list[str] = []
    (folder / "loop").symlink_to("loop")
    made = convert(folder, tmp_path / "data", skip_bad=True, notify=notes.append)
    assert made.dataset.skipped == 1 and any(line.endswith("left alone: " + str(folder / "loop")) for line in notes)


def test_links_that_may_not_be_followed_are_images_that_cannot_be_read(tmp_path, monkeypatch):
    folder = own_images.write_folders(tmp_path / "in", ("",))
    (folder / "bee" / "secret.png").symlink_to("nowhere")

    class Entry:  # as os.scandir gives, of a place that may not be looked at
        def __init__(self, entry: os.DirEntry[str]):
            self.name, self.path, self._entry = entry.name, entry.path, entry

        def is_dir(self) -> bool:
            if self.name == "secret.png":
                raise PermissionError(13, "Permission denied")
            return self._entry.is_dir()

        def is_file(self) -> bool:
            if self.name == "secret.png":
                raise PermissionError(13, "Permission denied")
            return self._entry.is_file()

    entries = folders._entries
    monkeypatch.setattr(folders, "_entries", lambda folder: [Entry(one) for one in entries(folder)])
    refused(folder, r"1 of 13 images cannot be read: .*secret\.png")


def test_long_names_are_shown_by_their_ends():
    line = shown("a" * 1000 + "b" * 1000)
    assert len(line) == 500 and line.startswith("aaa") and line.endswith("bbb") and "..." in line
    assert shown("c" * 500) == "c" * 500


@pytest.mark.parametrize("index", [1 << 26, (1 << 32) - 1])
def test_pickles_that_number_their_parts_at_will_ask_for_no_memory(index):
    content = b"\x80\x02]r" + index.to_bytes(4, "little") + b"."
    tracemalloc.start()
    with pytest.raises(DataError, match=f"not a readable CIFAR batch .*its part 2 has the number {index:,}"):
        parse_batch(content, Path("data_batch_1"), DATASETS["cifar10"])
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 1 << 20


@pytest.mark.parametrize("headers", [{"GNU.sparse.size": "x", "GNU.sparse.map": "1,2"}, {"GNU.sparse.map": "x"}])
def test_numbers_of_a_tar_archive_that_are_none_are_one_line(tmp_path, headers):
    (tmp_path / "train-0.tar").write_bytes(tar_with("1.png", headers))
    refused(tmp_path / "train-0.tar", "not a whole, uncompressed tar archive")
    (tmp_path / "cifar.tar").write_bytes(tar_with("data_batch_1", headers))
    with pytest.raises(DataError, match="cut short or damaged"):
        read_original(DATASETS["cifar10"], tmp_path / "cifar.tar", tmp_path, False, lambda _: None)


@pytest.mark.parametrize(
    ("place", "value"), [(6, 99), (8, 1 << 5), (8, 1 << 6)], ids=["later version", "patches", "strong encryption"]
)
def test_zip_archives_of_later_versions_say_what_to_do(tmp_path, place, value):
    originals.write_tiny_archive(tmp_path / "tiny.zip", originals.tiny_files())
    content = bytearray((tmp_path / "tiny.zip").read_bytes())
    content[content.index(b"PK\x01\x02") + place] = value
    (tmp_path / "tiny.zip").write_bytes(content)
    with pytest.raises(DataError, match=r"Python cannot read.*: unpack it with another program and name the folder"):
        read_original(DATASETS["tinyimagenet"], tmp_path / "tiny.zip", tmp_path, False, lambda _: None)


def test_zip_archives_whose_names_are_no_text_are_damaged(tmp_path):
    originals.write_tiny_archive(tmp_path / "tiny.zip", originals.tiny_files())
    content = bytearray((tmp_path / "tiny.zip").read_bytes())
    entry = content.index(b"PK\x01\x02")
    content[entry + 9] |= 8  # says that the name is UTF-8
    content[entry + 46] = 0xFF
    (tmp_path / "tiny.zip").write_bytes(content)
    with pytest.raises(DataError, match="cut short or damaged"):
        read_original(DATASETS["tinyimagenet"], tmp_path / "tiny.zip", tmp_path, False, lambda _: None)


@pytest.mark.parametrize("header", [b"{" * 300, b"{'descr': '|u1', 'fortran_order': False, 'shape': (", b"x\n  y\n z"])
def test_arrays_whose_headers_python_cannot_parse_are_one_line(tmp_path, header):
    for name in CORRUPTIONS:
        np.save(tmp_path / f"{name}.npy", np.zeros((10, 32, 32, 3), np.uint8))
    np.save(tmp_path / "labels.npy", np.tile(np.arange(2), 5))
    start = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header
    (tmp_path / "fog.npy").write_bytes(start)
    with pytest.raises(DataError, match=r"fog\.npy cannot be read") as caught:
        open_cifar_c(tmp_path, 10)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("names", [{"x": "bee"}, {"0": ["bee"]}, 5, "ab", [None, "cat"], [[1], "cat"]], ids=str)
def test_names_of_classes_in_parquet_that_are_none_are_one_line(tmp_path, names):
    write_parquet(tmp_path / "in.parquet", json.dumps({"info": {"features": {"label": {"names": names}}}}))
    refused(tmp_path / "in.parquet", r"in\.parquet: label: names of classes: found .*, allowed: a list of names$")


def test_nested_metadata_of_parquet_tells_nothing(tmp_path):
    write_parquet(tmp_path / "in.parquet", "[" * 100_000)
    assert convert(tmp_path / "in.parquet", tmp_path / "data").dataset.class_names == ("0", "1")


def test_columns_of_parquet_whose_names_are_no_text_are_one_line(tmp_path):
    path = tmp_path / "in.parquet"
    write_parquet(path, "null")
    path.write_bytes(path.read_bytes().replace(b"label", b"la\xc2el"))
    refused(path, "cannot be read as parquet")


def write_parquet(path: Path, described: str) -> None:
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    table = pa.table({"image": [own_images.encoded(number) for number in range(8)], "label": [0, 1] * 4})
    pq.write_table(table.replace_schema_metadata({"huggingface": described}), path)
