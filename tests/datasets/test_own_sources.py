"""Claims about own images: every form that they may have becomes the same data set, split as it says or as is drawn."""

import csv
import dataclasses
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import own_images
import pytest
from hypothesis import given
from hypothesis import strategies as st
from own_images import CLASSES, TEST, TRAIN, convert
from places import REPOSITORY, TESTS

from pipelines.datasets.beton_check import check_beton
from pipelines.datasets.own.splitting import split_of_file, split_stratified
from pipelines.datasets.store import MANIFEST, Dataset, open_dataset

WRITERS = {
    "folders": own_images.write_folders,
    "csv": own_images.write_csv,
    "jsonl": own_images.write_jsonl,
    "parquet": own_images.write_parquet,
    "tar": own_images.write_tars,
}
KINDS = {"folders": "folders", "csv": "table", "jsonl": "table", "parquet": "parquet", "tar": "tar"}
CONTENT = (
    "classes",
    "height",
    "width",
    "mean",
    "std",
    "fingerprint",
    "originals_sha256",
    "skipped",
    "split_seed",
    "fit",
)


@pytest.fixture(scope="module")
def from_folders(tmp_path_factory) -> Dataset:
    folder = tmp_path_factory.mktemp("folders")
    return convert(own_images.write_folders(folder / "in"), folder / "data").dataset


def content(dataset: Dataset) -> tuple:
    loads = (dataset.load_images, dataset.load_labels)
    arrays = [load(split).tobytes() for split in ("train", "test") for load in loads]
    return (*(getattr(dataset, name) for name in CONTENT), arrays)


@pytest.mark.parametrize("form", WRITERS)
def test_every_form_of_the_same_images_becomes_the_same_data_set(tmp_path, from_folders, form):
    dataset = convert(WRITERS[form](tmp_path / "in"), tmp_path / "data", workers=2).dataset
    assert dataset.kind == KINDS[form]
    assert content(dataset) == content(from_folders)
    assert dataset.class_names == (("0", "1", "2") if form in ("tar", "jsonl") else CLASSES)
    assert open_dataset(tmp_path / "data", "pets", check="sha256") == dataset
    for split in ("train", "test"):
        check_beton(dataset, split)


def test_the_folder_says_what_was_read_and_how(from_folders):
    dataset = from_folders
    assert (dataset.train_images, dataset.test_images, dataset.height, dataset.width) == (TRAIN, TEST, 16, 16)
    assert (dataset.format, dataset.fit, dataset.split_seed, dataset.originals) == (3, "crop", None, ("in",))
    contents = [content for split in ("train", "val") for _, _, content in own_images.images(split)]
    digests = b"".join(hashlib.sha256(one).digest() for one in contents)
    assert dataset.originals_sha256 == hashlib.sha256(digests).hexdigest()
    train = dataset.load_images("train").reshape(-1, 3) / 255
    np.testing.assert_allclose(dataset.mean, train.mean(0), rtol=1e-12)
    np.testing.assert_allclose(dataset.std, train.std(0), rtol=1e-12)
    assert dataset.load_labels("train").tolist() == [CLASSES.index(label) for label, _, _ in own_images.images("train")]


def test_two_conversions_of_the_same_images_are_the_same_bytes(tmp_path):
    own_images.write_folders(tmp_path / "in")
    for name in ("a", "b"):
        convert(tmp_path / "in", tmp_path / name, workers=1 + (name == "b"))
    for path in (tmp_path / "a" / "pets").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / "pets" / path.name).read_bytes()


def test_fingerprints_tell_data_sets_apart_by_images_and_by_labels(from_folders):
    seen = {from_folders.fingerprint}
    for place, record in enumerate(from_folders.files):
        files = list(from_folders.files)
        files[place] = dataclasses.replace(record, sha256="0" * 64)
        seen.add(dataclasses.replace(from_folders, files=tuple(files)).fingerprint)
    assert len(seen) == 5  # of six files, those of FFCV say nothing that the others do not
    assert from_folders.fingerprint.startswith(f"{TRAIN}+{TEST} images, 3 classes, sha256 ")


# Splits


@given(
    counts=st.lists(st.integers(1, 60), min_size=2, max_size=8),
    fraction=st.floats(0.01, 0.99),
    seed=st.integers(0, 2**32),
)
def test_a_drawn_split_takes_its_share_of_each_class_and_leaves_none_empty(counts, fraction, seed):
    labels = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(counts)), counts))
    train, test = split_stratified(labels, fraction, seed)
    np.testing.assert_array_equal(np.sort(np.concatenate([train, test])), np.arange(len(labels)))
    assert (np.diff(train) > 0).all() and (np.diff(test) > 0).all()
    for label, count in enumerate(counts):
        drawn = int((labels[test] == label).sum())
        if count == 1:
            assert drawn == 0
        else:
            assert 1 <= drawn <= count - 1
            assert abs(drawn - count * fraction) <= 0.5 or drawn in (1, count - 1)
    again = split_stratified(labels, fraction, seed)
    np.testing.assert_array_equal(again[1], test)


def test_images_in_no_split_are_split_by_a_recorded_seed(tmp_path):
    own_images.write_folders(tmp_path / "in", ("",))
    found = convert(tmp_path / "in", tmp_path / "data", val_fraction=0.5, split_seed=7).dataset
    assert (found.train_images, found.test_images, found.split_seed) == (TRAIN // 2, TRAIN // 2, 7)
    assert np.bincount(found.load_labels("test")).tolist() == [2, 2, 2]
    usual = convert(tmp_path / "in", tmp_path / "data", "usual").dataset
    assert (usual.test_images, usual.split_seed) == (3, 0)


def test_the_only_image_of_a_class_trains(tmp_path):
    own_images.write_folders(tmp_path / "in", ("",))
    (tmp_path / "in" / "eel").mkdir()
    (tmp_path / "in" / "eel" / "1.png").write_bytes(own_images.encoded(9))
    found = convert(tmp_path / "in", tmp_path / "data").dataset
    counts = [np.bincount(found.load_labels(split), minlength=4).tolist() for split in ("train", "test")]
    assert counts == [[3, 3, 3, 1], [1, 1, 1, 0]]


def test_train_alone_is_split_too_and_another_place_may_have_the_test_images(tmp_path):
    own_images.write_folders(tmp_path / "in")
    (tmp_path / "in" / "val").rename(tmp_path / "elsewhere")
    assert convert(tmp_path / "in", tmp_path / "data", "drawn").dataset.split_seed == 0
    found = convert(tmp_path / "in", tmp_path / "data", "named", val=tmp_path / "elsewhere").dataset
    assert (found.train_images, found.test_images, found.split_seed) == (TRAIN, TEST, None)
    assert found.originals == ("in", "elsewhere")


def test_of_several_test_splits_one_is_taken_and_the_other_named(tmp_path):
    own_images.write_folders(tmp_path / "in", ("train", "test", "val"))
    lines = []
    assert convert(tmp_path / "in", tmp_path / "data", notify=lines.append).dataset.test_images == TEST
    assert lines == ["note: test is left alone, val is what is tested on"]


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("train-00000-of-00002.parquet", "train"),
        ("training_1.tar", "training"),
        ("Validation-0.parquet", "validation"),
        ("valid.tar", "valid"),
        ("trains.tar", ""),
        ("my-train.tar", ""),
    ],
)
def test_a_file_is_of_the_split_that_its_name_begins_with(name, word):
    assert split_of_file(Path(name)) == word


def test_a_class_may_be_called_train(tmp_path):
    for label in ("plane", "train"):
        (tmp_path / "in" / label).mkdir(parents=True)
        for number in range(4):
            (tmp_path / "in" / label / f"{number}.png").write_bytes(own_images.encoded(number))
    assert convert(tmp_path / "in", tmp_path / "data").dataset.class_names == ("plane", "train")


# What is data, and what is not


def test_hidden_files_and_folders_are_never_data_and_other_files_are_named(tmp_path):
    own_images.write_folders(tmp_path / "in")
    cat = tmp_path / "in" / "train" / "cat"
    for place in (".git", ".ipynb_checkpoints", "__MACOSX"):
        (tmp_path / "in" / "train" / place).mkdir()
        (tmp_path / "in" / "train" / place / "a.png").write_bytes(b"")
    for name in ("._001.png", ".hidden.png", "Thumbs.db", "desktop.ini", "notes.txt", "IMG_1.HEIC"):
        (cat / name).write_bytes(b"")
    lines = []
    dataset = convert(tmp_path / "in", tmp_path / "data", notify=lines.append).dataset
    assert (dataset.train_images, dataset.class_names) == (TRAIN, CLASSES)
    assert lines == [f"note: 2 files are no images by their names and left alone: {cat / 'IMG_1.HEIC'}"]


def test_links_are_followed_and_loops_end(tmp_path):
    own_images.write_folders(tmp_path / "real")
    (tmp_path / "in").mkdir()
    for split in ("train", "val"):
        (tmp_path / "in" / split).symlink_to(tmp_path / "real" / split)
    (tmp_path / "real" / "train" / "cat" / "up").symlink_to(tmp_path / "real" / "train")
    (tmp_path / "real" / "train" / "cat" / "self").symlink_to(tmp_path / "real" / "train" / "cat")
    (tmp_path / "real" / "train" / "cat" / "deeper").mkdir()
    (tmp_path / "real" / "train" / "cat" / "deeper" / "x.PNG").write_bytes(own_images.encoded(77))
    assert convert(tmp_path / "in", tmp_path / "data").dataset.train_images == TRAIN + 1


def test_classes_are_in_plain_order_and_one_stem_may_be_in_two_places(tmp_path):
    for label in ("10", "9", "B", "a"):
        (tmp_path / "in" / label).mkdir(parents=True)
        for number in range(3):
            (tmp_path / "in" / label / f"{number}.png").write_bytes(own_images.encoded(number))
    assert convert(tmp_path / "in", tmp_path / "data").dataset.class_names == ("10", "9", "B", "a")


def test_rows_of_a_table_may_have_more_columns_and_their_paths_lead_anywhere(tmp_path):
    own_images.write_folders(tmp_path / "in", ("",))
    (tmp_path / "tables").mkdir()
    with (tmp_path / "tables" / "a.csv").open("w", newline="", encoding="utf-8-sig") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "label", "path"])
        for number, (label, name, _) in enumerate(own_images.images("train")):
            writer.writerow([number, label, f"../in/{label}/{name}" if number else tmp_path / "in" / label / name])
    assert convert(tmp_path / "tables" / "a.csv", tmp_path / "data").dataset.class_names == CLASSES


def test_columns_of_plain_bytes_and_of_names_are_read_and_files_beside_them(tmp_path):
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    rows = own_images.images("train")
    (tmp_path / "in" / "data").mkdir(parents=True)
    table = pa.table({"x": [content for *_, content in rows], "kind": [label for label, *_ in rows]})
    pq.write_table(table, tmp_path / "in" / "data" / "all.parquet")
    plain = convert(tmp_path / "in", tmp_path / "data").dataset
    for _, name, image in rows:
        (tmp_path / "in" / "data" / name).write_bytes(image)
    table = pa.table({"image": [{"bytes": None, "path": name} for _, name, _ in rows], "label": table["kind"]})
    pq.write_table(table, tmp_path / "in" / "data" / "all.parquet")
    beside = convert(tmp_path / "in" / "data" / "all.parquet", tmp_path / "data", "beside").dataset
    assert plain.fingerprint == beside.fingerprint and plain.class_names == CLASSES


# Sizes


@pytest.mark.parametrize(("side", "size"), [(16, 16), (28, 28), (256, 256), (30, 64), (260, 64), (4, 64)])
def test_the_images_own_size_is_kept_where_it_is_one_square_that_networks_take(tmp_path, side, size):
    for label in "ab":
        (tmp_path / "in" / label).mkdir(parents=True)
        for number in range(2):
            (tmp_path / "in" / label / f"{number}.png").write_bytes(own_images.encoded(number, side))
    found = convert(tmp_path / "in", tmp_path / "data").dataset
    assert (found.height, found.width, found.crop_padding) == (size, size, size // 8)
    assert convert(tmp_path / "in", tmp_path / "data", "given", size=12).dataset.height == 12


def test_images_of_several_sizes_become_64_pixels(tmp_path):
    own_images.write_folders(tmp_path / "in")
    (tmp_path / "in" / "val" / "bee" / "large.png").write_bytes(own_images.encoded(1, 40))
    assert convert(tmp_path / "in", tmp_path / "data").dataset.height == 64


# Old folders, and memory


def test_a_manifest_of_before_still_opens_and_has_what_one_of_today_has_without_own_images_and_checksum(
    tmp_path, digits
):
    shutil.copytree(digits / "digits", tmp_path / "digits")
    shutil.copy(TESTS / "golden" / "dataset_of_before.json", tmp_path / "digits" / MANIFEST)
    old, now = open_dataset(tmp_path, "digits", check="sha256"), open_dataset(digits, "digits")
    assert (old.format, now.format) == (1, 3)
    assert dataclasses.replace(old, format=now.format, folder=now.folder) == now
    assert (old.kind, old.fit, old.split_seed, old.skipped, old.originals_sha256) == (*[None] * 3, 0, None)


PROGRAM = """
import resource, sys
from pathlib import Path
from pipelines.datasets.own.convert import convert_folder

def peak(who): return resource.getrusage(who).ru_maxrss * (1 if sys.platform == "darwin" else 1024)

path, data, workers = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
made = convert_folder(path, "many", data, size=32, workers=workers, notify=lambda _: None).dataset
print(made.train_images + made.test_images, peak(resource.RUSAGE_SELF), peak(resource.RUSAGE_CHILDREN))
"""


def test_memory_does_not_grow_with_the_number_of_images(tmp_path):
    """20,000 images are 61 MB of pixels, written twice; the rest is names and tables of positions."""
    peaks = {}
    for count in (300, 10_000):
        for label in "ab":
            (tmp_path / str(count) / label).mkdir(parents=True)
            (tmp_path / f"{label}.png").write_bytes(own_images.encoded(ord(label), 32))
            for number in range(count):
                os.symlink(tmp_path / f"{label}.png", tmp_path / str(count) / label / f"{number}.png")  # noqa: PTH211
        command = [sys.executable, "-c", PROGRAM, tmp_path / str(count), tmp_path / f"data{count}", "1"]
        done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=REPOSITORY)
        converted, *peaks[count] = map(int, done.stdout.split())
        assert converted == 2 * count
    for few, many in zip(peaks[300], peaks[10_000], strict=True):
        assert many - few < 30e6, peaks
