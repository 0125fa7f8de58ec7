"""Claims about `dataset.json`: whatever is changed in it is refused in one line, or changes nothing."""

import dataclasses
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from places import TESTS
from small_dataset import write_small_dataset

from mixmo_fast.errors import DataError
from pipelines.datasets.catalog import DATASETS
from pipelines.datasets.store import MANIFEST, Dataset, open_dataset, read_manifest, write_manifest

OTHER = {
    "title": "Another",
    "classes": 9,
    "class_names": ["9", *"123456780"],
    "train_images": 59,
    "test_images": 6,
    "height": 16,
    "width": 12,
    "mean": [0.3, 0.3, 0.3],
    "std": [0.3, 0.3, 0.3],
    "crop_padding": 1,
    "flip": True,
    "originals": ["elsewhere"],
    "verified": False,
    "kind": "folders",
    "fit": "pad",
    "split_seed": 1,
    "skipped": 1,
    "originals_sha256": "0" * 64,
    "format": 2,
    "name": "smaller",
}


@pytest.fixture
def small(tmp_path) -> Dataset:
    """A data set that only its folder knows."""
    return write_small_dataset(tmp_path)


def written(dataset: Dataset) -> dict:
    return json.loads((dataset.folder / MANIFEST).read_text())


def refusal(path: Path, content: bytes | dict, name: str) -> str:
    """The line with which a manifest of that content is refused."""
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    with pytest.raises(DataError) as error:
        open_dataset(path.parents[1], name)
    line = str(error.value)
    assert line.startswith(f"{path}: ") and line.endswith("--force`") and line.isprintable() and len(line) < 1000
    return line


def flipped(content: bytes, bit: int) -> bytes:
    changed = bytearray(content)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


@pytest.mark.parametrize("key", [*OTHER, "files"])
def test_a_changed_value_is_refused_and_so_is_a_missing_one(small, key):
    path, fields = small.folder / MANIFEST, written(small)
    others = OTHER | {"files": [fields["files"][0] | {"sha256": "0" * 64}, *fields["files"][1:]]}
    changed = fields | {key: others[key]}
    assert changed != fields
    refusal(path, changed, "small")
    refusal(path, {one: value for one, value in fields.items() if one != key}, "small")


def test_a_change_that_is_meant_takes_out_the_checksum_too_and_the_error_says_so(small):
    path, fields = small.folder / MANIFEST, written(small)
    changed = fields | {"mean": [0.3, 0.3, 0.3]}
    line = refusal(path, changed, "small")
    assert "what its manifest_sha256 says (a change that is meant takes out that line, too)" in line
    assert line.endswith(f": run `mixmo-fast convert folder PATH --name small --data {path.parents[1]} --force`")
    lines = json.dumps(changed, indent=1).splitlines()
    path.write_text("\n".join(line for line in lines if "manifest_sha256" not in line))  # still JSON
    assert open_dataset(path.parents[1], "small") == dataclasses.replace(small, mean=(0.3,) * 3)


def test_layout_and_order_of_keys_do_not_matter(small):
    path, fields = small.folder / MANIFEST, written(small)
    path.write_text(json.dumps(dict(reversed(fields.items()))))
    assert open_dataset(path.parents[1], "small") == small


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"mean": [0.3, 0.3, 0.3]}, "mean [0.3, 0.3, 0.3] is not [0.3053919438081213, 0.3053919438081213, 0.30539"),
        ({"std": [1, 1, 1]}, "std [1.0, 1.0, 1.0] is not [0.37533770606280425, "),
        ({"crop_padding": 3}, "crop_padding 3 is not 2 of digits"),
        ({"flip": True}, "flip true is not false of digits"),
        ({"classes": 11}, "classes 11 is not 10 of digits"),
        ({"class_names": [*"012345678", "nine"]}, "class_names.9 'nine' is not '9' of digits"),
        ({"class_names": []}, 'class_names [] is not ["0", "1", '),
        ({"train_images": 1437}, "train_images 1437 is not 1438 of digits"),
        ({"test_images": 1}, "test_images 1 is not 359 of digits"),
        ({"height": 8, "width": 32}, "height 8 is not 16 of digits"),
        ({"kind": "folders"}, "describes own images, which need another --name than that of Optical digits"),
    ],
)
@pytest.mark.parametrize("of_before", [True, False], ids=["without a checksum", "with one made anew"])
def test_a_known_data_set_is_compared_with_the_catalogue_whatever_its_checksum_says(
    digits, tmp_path, change, said, of_before
):
    shutil.copytree(digits / "digits", tmp_path / "digits")
    path = tmp_path / "digits" / MANIFEST
    if of_before:
        content: bytes | dict = json.loads((TESTS / "golden" / "dataset_of_before.json").read_bytes()) | change
    else:
        content = write_manifest(dataclasses.replace(open_dataset(tmp_path, "digits"), **change))
    assert f"{path}: {said}" in refusal(path, content, "digits")


def test_the_catalogues_numbers_of_images_are_those_of_the_published_originals_alone(digits, tmp_path):
    """`--no-verify` takes others, and throughput is measured on random ones."""
    shutil.copytree(digits / "digits", tmp_path / "digits")
    own = open_dataset(tmp_path, "digits")
    files = tuple(dataclasses.replace(one, size=128 + 8 * 20) if "labels" in one.name else one for one in own.files)
    files = tuple(dataclasses.replace(one, size=128 + 768 * 20) if "images" in one.name else one for one in files)
    few = dataclasses.replace(own, train_images=20, test_images=20, files=files, verified=False, title="Few")
    path = tmp_path / "digits" / MANIFEST
    path.write_bytes(write_manifest(few))
    assert read_manifest(path, tmp_path, "digits") == few
    path.write_bytes(write_manifest(dataclasses.replace(few, verified=True)))
    with pytest.raises(DataError, match="train_images 20 is not 1438 of digits"):
        read_manifest(path, tmp_path, "digits")


@pytest.mark.slow
def test_every_flipped_bit_is_refused_or_changes_nothing(small):
    path = small.folder / MANIFEST
    content, same = path.read_bytes(), 0
    for bit in range(8 * len(content)):
        path.write_bytes(flipped(content, bit))
        try:
            found = read_manifest(path, path.parents[1], "small")
        except DataError as error:
            assert str(error).isprintable()
        else:
            assert found == small
            same += 1
    assert same < 8 * len(content) // 10  # of the spaces between keys, some bits make other white space


def test_a_flipped_bit_in_a_manifest_of_before_is_refused_or_changes_nothing_that_is_trained_on(digits, tmp_path):
    """Checksums of files are compared where files are read."""
    shutil.copytree(digits / "digits", tmp_path / "digits")
    whole, path = open_dataset(tmp_path, "digits"), tmp_path / "digits" / MANIFEST
    content = (TESTS / "golden" / "dataset_of_before.json").read_bytes()
    for bit in np.random.default_rng(0).integers(0, 8 * len(content), 1000):
        path.write_bytes(flipped(content, int(bit)))
        try:
            found = open_dataset(tmp_path, "digits")
        except DataError as error:
            assert str(error).isprintable()
        else:
            assert dataclasses.replace(found, format=3, title=whole.title, originals=(), files=()) == (
                dataclasses.replace(whole, originals=(), files=())
            )


@pytest.mark.parametrize(
    "change",
    [
        *({key: value} for key in ("classes", "train_images", "test_images", "height", "width") for value in (0, -1)),
        *({key: 2**70} for key in ("classes", "train_images", "height", "crop_padding", "skipped", "format")),
        *({"mean": [0.5, 0.5, value]} for value in (-1.0, 1e308, 1.1, float("nan"), float("inf"), "0.5", None)),
        *({"std": [0.5, value, 0.5]} for value in (0, -0.5, 5e-324, 1e-300, 1e308, float("nan"), True)),
        *({"channels": value} for value in (0, 1, 4, 2**70)),
        *({"title": value} for value in ("two\nlines", "\x1b[2J", "\x00", "\u2028", "x" * 10_000_000, 3)),
        *({"class_names": [value, *"123456789"]} for value in ("two\nlines", "\x1b]0;x\x07", "x" * 10_000_000, "1")),
        {"class_names": ["0", "1"]},
        {"class_names": [*"0123456789", "10"]},
        {"classes": 11},
        {"originals": ["a\rb"]},
        {"kind": "\x1b[31m"},
        {"two\nlines\x1b[2J": 1},
        {"x" * 10_000_000: 1},
        {"format": "x" * 10_000_000},
        {"files": {}},
        {"files": [{"name": "\x1b[2J", "size": 1, "sha256": "0" * 64}] * 6},
        {"train_images": 10**9},
        {"skipped": -1},
        {"originals_sha256": "none"},
    ],
    ids=lambda change: f"{change!r:.40}".encode("unicode_escape").decode(),
)
def test_absurd_values_are_one_line(small, change):
    fields = written(small)
    del fields["manifest_sha256"]  # they are what they are refused for
    refusal(small.folder / MANIFEST, fields | change, "small")


@pytest.mark.parametrize("change", [{"size": -1}, {"size": 0}, {"size": 2**70}, {"sha256": "g" * 64}, {"sha256": ""}])
def test_a_record_of_a_file_that_cannot_be_is_one_line(small, change):
    fields = written(small)
    del fields["manifest_sha256"]
    for number in range(6):
        files = list(fields["files"])
        files[number] = files[number] | change
        line = refusal(small.folder / MANIFEST, fields | {"files": files}, "small")
        assert f"files.{number}.{next(iter(change))}: " in line


def test_what_is_no_json_object_is_one_line(small):
    path = small.folder / MANIFEST
    text = path.read_text()
    for content, said in {
        b"": "not valid JSON",
        b"[]": "format version None, this program reads 1 to 3",
        b"[" * 1_000_000: "not valid JSON",
        text.replace('"flip": ', '"flip": ' + '{"a":' * 900 + "1" + "}" * 900 + ', "x": ').encode(): "",
        text.replace('"classes": 10', '"classes": ' + "1" * 5000).encode(): "not valid JSON",
        text.replace('"classes": 10', '"classes": ' + "1" * 4000).encode(): "classes: ",
        text.replace('"flip": ', '"flip": true, "flip": ').encode(): "not valid JSON ('flip' stands there twice)",
        text.replace('"title": "', '"title": "\\ud800').encode(): "",
        text.encode("utf-8-sig"): "not valid JSON",
        text.encode("utf-16"): "not valid JSON",
        text.encode("utf-32"): "not valid JSON",
        text.replace("Optical", "\udc80").encode(errors="surrogateescape"): "not valid JSON",
        text[:-3].encode(): "not valid JSON",
    }.items():
        assert said in refusal(path, content, "small"), content[:40]
    with path.open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(DataError, match="more than 134,217,728 bytes"):
        open_dataset(path.parents[1], "small")


def test_json_of_any_depth_is_one_line(small):
    fields = written(small)
    del fields["manifest_sha256"]
    text = json.dumps(fields)
    for depth in (*range(150, 1000, 10), 10_000):
        nested = text.replace("{", '{"x": ' + "[" * depth + "]" * depth + ", ", 1)
        refusal(small.folder / MANIFEST, nested.encode(), "small")


def test_what_is_no_file_in_its_place_is_one_line_and_a_pipe_is_not_waited_for(digits, tmp_path):
    shutil.copytree(digits / "digits", tmp_path / "digits")
    path = tmp_path / "digits" / MANIFEST
    for make, said in (
        (os.mkfifo, "cannot be read (not a regular file)"),
        (Path.mkdir, "cannot be read (Is a directory)"),
        (lambda path: path.symlink_to(path.name), "cannot be read (Too many levels of symbolic links)"),
        (lambda path: path.symlink_to("/dev/zero"), "cannot be read (not a regular file)"),
        (lambda path: None, "cannot be read (No such file or directory)"),
    ):
        path.unlink()
        make(path)
        with pytest.raises(DataError) as error:
            open_dataset(tmp_path, "digits")
        assert f"{path}: {said}: run `mixmo-fast convert digits " in str(error.value)
        if path.is_dir():
            path.rmdir()
        if not path.is_symlink():
            path.touch()


def test_the_catalogue_itself_could_be_written_and_read(tmp_path, small):
    """No published value is out of the ranges that are allowed."""
    for info in DATASETS.values():
        counts = {"train": info.train_images, "test": info.test_images}
        each = {"images.npy": info.height * info.width * 3, "labels.npy": 8}
        files = []
        for one in small.files:
            split, _, kind = one.name.partition("_")
            files.append(dataclasses.replace(one, size=128 + counts[split] * each[kind]) if kind else one)
        facts = {field.name: getattr(info, field.name, None) for field in dataclasses.fields(Dataset)}
        facts |= {
            "format": 3,
            "originals": (),
            "verified": True,
            "files": tuple(files),
            "skipped": 0,
            "folder": tmp_path,
        }
        dataset = Dataset(**facts)
        (tmp_path / MANIFEST).write_bytes(write_manifest(dataset))
        assert read_manifest(tmp_path / MANIFEST, tmp_path, info.name) == dataset
