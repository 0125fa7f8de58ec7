"""Claims about own images that cannot become a data set: one clear line says why, and nothing is left behind."""

import errno
import json
import os
import subprocess
import sys
import tarfile
import textwrap
from pathlib import Path

import own_images
import pytest
from own_images import add, convert, declaring, encoded

import pipelines.datasets.own.convert as module
from mixmo_fast.errors import DataError
from pipelines.datasets.own.decoders import Decoders

IMAGE = encoded(1)


def put(path: Path, content: bytes = IMAGE) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def refused(path: Path, message: str, **options) -> str:
    """The one line with which a conversion is refused; nothing new is in the data folder."""
    data = options.pop("data_dir", path.parent / "data")
    before = sorted(one.name for one in data.iterdir()) if data.is_dir() else []
    with pytest.raises(DataError, match=message) as caught:
        convert(path, data, **options)
    line = str(caught.value)
    assert line == " ".join(line.split()) and line.isprintable(), line
    assert (sorted(one.name for one in data.iterdir()) if data.is_dir() else []) == before
    return line


def two_classes(folder: Path, images: int = 4) -> Path:
    for label in "ab":
        for number in range(images):
            put(folder / label / f"{number}.png", encoded(number))
    return folder


def make_one_class(folder: Path) -> None:
    put(folder / "a" / "1.png")
    put(folder / "a" / "2.png")


def make_class_missing_in_val(folder: Path) -> None:
    own_images.write_folders(folder)
    for path in (folder / "val" / "dog").iterdir():
        path.unlink()


def make_class_missing_in_train(folder: Path) -> None:
    own_images.write_folders(folder)
    put(folder / "val" / "eel" / "1.png")


def make_no_image_files(folder: Path) -> None:
    put(folder / "a" / "1.heic")
    put(folder / "b" / "1.heic")


def make_flat_images(folder: Path) -> None:
    put(folder / "1.png")


def make_only_single_images(folder: Path) -> None:
    put(folder / "a" / "1.png")
    put(folder / "b" / "1.png")


def make_newline_in_class(folder: Path) -> None:
    two_classes(folder)
    put(folder / "c\nd" / "1.png")


def make_class_of_other_bytes(folder: Path) -> None:
    two_classes(folder)
    os.makedirs(os.fsencode(folder) + b"/caf\xe9")  # noqa: PTH103
    with open(os.fsencode(folder) + b"/caf\xe9/1.png", "wb") as file:  # noqa: PTH123
        file.write(IMAGE)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda folder: folder.mkdir(), "no images in class folders, allowed: CLASS/IMAGE or train/CLASS/IMAGE"),
        (make_no_image_files, r"no images in class folders.*found 2 other files, the first .*1\.heic"),
        (make_flat_images, r"no images in class folders.*1\.png"),
        (make_one_class, "found one class, a, allowed: two classes or more"),
        (make_only_single_images, "no class has two images.*--val"),
        (make_class_missing_in_val, "no test image of class dog, allowed: at least 1 of each"),
        (make_class_missing_in_train, "the test images have class eel, which the training images do not have"),
        (make_newline_in_class, r"class 'c\\\\nd': found characters that cannot be printed: rename it"),
        (make_class_of_other_bytes, r"class 'caf\\\\udce9': found bytes that are not UTF-8: rename it"),
        (lambda folder: put(folder / "val" / "a" / "1.png"), "found val, allowed: train and val with a folder"),
        (lambda folder: put(folder, b"x"), r"a file of another kind, allowed: a folder, or a file with \.csv, \.jsonl"),
        (lambda folder: None, "does not exist, allowed: a folder of images"),
    ],
)
def test_folders_that_are_no_data_set(tmp_path, make, message):
    make(tmp_path / "in")
    refused(tmp_path / "in", message)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "digits"}, "--name: found digits, which is Optical digits"),
        ({"name": "../pets"}, "--name: found '../pets', allowed: small letters"),
        ({"name": "Pets"}, "--name: found 'Pets'"),
        ({"size": 30}, "--size: found 30, allowed: a multiple of 4 from 8 to 512"),
        ({"size": 516}, "--size: found 516"),
        ({"size": 0}, "--size: found 0"),
        ({"fit": "fill"}, "--fit: found 'fill', allowed: crop, pad, stretch"),
        ({"val_fraction": 1.0}, "--val-fraction: found 1.0, allowed: a number above 0 and below 1"),
        ({"val_fraction": float("nan")}, "--val-fraction: found nan"),
    ],
)
def test_options_that_cannot_be(tmp_path, options, message):
    refused(two_classes(tmp_path / "in"), message, **options)


def test_test_images_that_do_not_belong_to_the_training_images(tmp_path):
    folder = two_classes(tmp_path / "in")
    for label in "xy":
        put(tmp_path / "other" / label / "1.png")
    line = refused(folder, "class x, which the training images do not have", val=tmp_path / "other")
    assert line.endswith("they have no class in common")
    refused(folder, "does not exist", val=tmp_path / "nowhere")
    refused(folder, "--val-fraction: found beside --val", val=tmp_path / "other", val_fraction=0.2)
    own_images.write_folders(tmp_path / "split")
    refused(tmp_path / "split", "--val .*found beside the test images", val=tmp_path / "other")
    refused(folder, r"--val .*found splits \(train, val\)", val=tmp_path / "split")


# Tables


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "columns: found none, allowed: path, label and perhaps split"),
        ("path,label\n", "no images in it"),
        ("file,class\na.png,a\n", "columns: found file, class, allowed: path, label"),
        ("path;label\na.png;a\n", "columns: found path;label"),
        ("path,label,label\na.png,a,b\n", "columns: found path, label, label"),
        ("path,label\na.png\n", "line 2: found 1 values, allowed: 2"),
        ("path,label\n,a\n", "line 2: path: found ''"),
        ("path,label\na.png, \n", "line 2: label: found ''"),
        ("path,label\na.png,a\nb.png,b\n./a.png,b\n", r"line 4: path: \./a\.png is on line 2 already"),
        ("path,label,split\na.png,a,dev\n", "line 2: split: found 'dev', allowed: train, training, val"),
        ("path,label,split\na.png,a,train\nb.png,b,\n", r"some images are in a split \(train\) and others in none"),
        ("path,label,split\na.png,a,val\nb.png,b,val\n", "splits: found val, allowed: one of train and training"),
        ('path,label\n"a\nb.png",a\n"a\nb.png",b\n', r"line 5: path: a\\nb\.png is on line 3 already"),
        ("path,label\na\0.png,a\n", "line 2: (not CSV|path)"),
        # With a name of its own: a test's is in the environment of its processes, which may not be so long.
        pytest.param(f"path,label\n{'a' * 200_000},a\n", "line 2: not CSV", id="a field without an end"),
    ],
)
def test_tables_with_other_columns_and_values(tmp_path, text, message):
    (tmp_path / "in.csv").write_text(text)
    refused(tmp_path / "in.csv", message)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "line 1: not a JSON object"),
        ("[1]", "line 1: not a JSON object"),
        ("[" * 100_000, "line 1: not a JSON object"),
        ('{"file_name": "a.png"}', "line 1: found file_name, allowed: path, label"),
        ('{"path": "a.png", "label": 1.5}', "line 1: label: found '1.5', allowed: a name or a whole number"),
        ('{"path": "a.png", "label": true}', "line 1: label: found 'True'"),
        ('{"path": 1, "label": 1}', "line 1: path: found '1'"),
        ('{"path": "a.png", "label": 0}\n{"path": "b.png", "label": "b"}', r"several kinds \(int, str\)"),
        ('{"path": "a.png", "label": 1}\n\n{"path": "b.png", "label": 2}', "labels from 1 to 2.*count from 1"),
        ('{"path": "a.png", "label": 0}\n{"path": "b.png", "label": 2}', "labels from 0 to 2, 2 different ones"),
        ('{"path": "a.png", "label": -1}\n{"path": "b.png", "label": 0}', "labels from -1 to 0"),
    ],
)
def test_json_lines_that_are_no_rows(tmp_path, text, message):
    (tmp_path / "in.jsonl").write_text(text)
    refused(tmp_path / "in.jsonl", message)


def test_a_table_that_is_no_text(tmp_path):
    (tmp_path / "in.csv").write_bytes(b"path,label\n\xff\xfe,a\n")
    refused(tmp_path / "in.csv", "not UTF-8 text")


# Parquet


def test_parquet_files_that_do_not_say_what_they_hold(tmp_path):
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")

    def check(message: str, metadata: dict | None = None, **columns) -> None:
        table = pa.table(columns)
        if metadata:
            table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": metadata}})})
        pq.write_table(table, tmp_path / "in.parquet")
        refused(tmp_path / "in.parquet", message)

    images, names = [IMAGE, IMAGE], ["a", "b"]
    check(
        "which column is the image. found text, label, allowed: one that is called image", text=[1.5, 2.5], label=names
    )
    check("which column is the image. x, y may be it", x=images, y=images, label=names)
    check("which column is the label. found image", image=images)
    check("which column is the label. fine, coarse may be it", image=images, fine=[0, 1], coarse=[0, 1])
    check("label: row 1 has no label", image=images, label=["a", None])
    check("labels from 1 to 2.*labels that count from 1 need 1 taken off", image=images, label=[1, 2])
    told = {"label": {"_type": "ClassLabel", "names": ["x", "y"]}}
    twice = {"label": {"_type": "ClassLabel", "names": ["x", "x"]}}
    check("several classes are called x, allowed: one of each name", twice, image=images, label=[0, 1])
    check("labels from -1 to 0", told, image=images, label=[-1, 0])
    check("labels from 0 to 2, .*allowed: whole numbers from 0 to 1", told, image=images, label=[0, 2])
    (tmp_path / "in.parquet").write_bytes((tmp_path / "in.parquet").read_bytes()[:-20])
    refused(tmp_path / "in.parquet", "cannot be read as parquet")


def test_parquet_without_pyarrow_names_the_extra(tmp_path, monkeypatch):
    put(tmp_path / "in.parquet")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    refused(tmp_path / "in.parquet", r"parquet files need pyarrow: `pip install 'mixmo-fast\[parquet\]'`")


# Archives


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([("a.png", IMAGE)], r"a has no \.cls beside it, allowed: an image and \.cls"),
        ([("a.cls", b"0")], "a has no image beside it"),
        ([("a.png", IMAGE), ("b.png", IMAGE), ("a.cls", b"0")], r"a has no \.cls beside it.*--sort=name"),
        ([("a.png", IMAGE), ("a.jpg", IMAGE), ("a.cls", b"0")], "a has two images"),
        ([("a.png", IMAGE), ("a.cls", b"x"), ("b.png", IMAGE), ("b.cls", b"y")] * 2, "a is there twice"),
        ([("a.png", IMAGE), ("a.cls", b"\xff")], r"a\.cls: not a label"),
        ([("a.png", IMAGE), ("a.cls", bytes(2000))], r"a\.cls: not a label"),
        ([("a.png", IMAGE), ("a.cls", b"1"), ("b.png", IMAGE), ("b.cls", b"2")], "labels from 1 to 2.*count from 1"),
        ([], "found no class|no images"),
    ],
)
def test_archives_without_a_label_for_each_image(tmp_path, members, message):
    with tarfile.open(tmp_path / "in.tar", "w") as tar:
        for name, content in members:
            add(tar, name, content)
    refused(tmp_path / "in.tar", message)


def test_archives_that_are_none_or_compressed(tmp_path):
    put(tmp_path / "in.tar")
    refused(tmp_path / "in.tar", "not a whole, uncompressed tar archive")
    with tarfile.open(tmp_path / "in.tar", "w:gz") as tar:
        add(tar, "a.png", IMAGE)
    refused(tmp_path / "in.tar", "not a whole, uncompressed tar archive")


# Images


def broken(folder: Path) -> Path:
    two_classes(folder, 10)
    (folder / "a" / "0.png").write_bytes(b"")
    (folder / "a" / "1.png").write_bytes(declaring(60_000))
    (folder / "b" / "2.png").write_bytes(IMAGE[:60])
    (folder / "b" / "3.png").unlink()
    (folder / "b" / "3.png").symlink_to(folder / "nowhere.png")
    return folder


def test_images_that_cannot_be_read_are_counted_and_the_first_are_named(tmp_path):
    folder = broken(tmp_path / "in")
    line = refused(folder, r"^4 of 20 images cannot be read: .*; \.\.\.: mend or remove them, or pass --skip-bad$")
    assert line.count(".png") == 3


def test_they_can_be_left_out_which_is_said_and_kept(tmp_path):
    lines = []
    made = convert(broken(tmp_path / "in"), tmp_path / "data", skip_bad=True, notify=lines.append).dataset
    assert (made.skipped, made.train_images + made.test_images) == (4, 16)
    (line,) = lines
    assert line.startswith("note: left out 4 images that cannot be read: ") and line.endswith("; ...")
    seen = {bytes(image) for split in ("train", "test") for image in made.load_images(split)}
    assert len(seen) == 10  # each image is there in both classes


def test_leaving_out_a_whole_class_or_split_is_refused(tmp_path):
    folder = two_classes(tmp_path / "in")
    for path in (folder / "b").iterdir():
        path.write_bytes(b"")
    refused(folder, "no training image of class b, allowed: at least 1 of each", skip_bad=True)
    own_images.write_folders(tmp_path / "split")
    for path in (tmp_path / "split" / "val").rglob("*.*"):
        path.write_bytes(b"")
    refused(tmp_path / "split", "none of the 6 test images can be read", skip_bad=True)


def test_a_process_that_dies_of_an_image_is_one_line(tmp_path, monkeypatch):
    folder = two_classes(tmp_path / "in")
    entered = Decoders.__enter__

    def killed(self):
        entered(self)
        for decoder in self._decoders:
            decoder.process.kill()
        return self

    monkeypatch.setattr(Decoders, "__enter__", killed)
    refused(folder, r"decoding ended with -9 at one of the images from .*0\.png to .*2\.png: too little memory")


# Folders


def test_what_is_there_already_stays_unless_it_may_be_replaced(tmp_path):
    folder, data = two_classes(tmp_path / "in"), tmp_path / "data"
    before = convert(folder, data).dataset
    refused(folder, "pets is converted already: --force replaces it, another --name", data_dir=data)
    assert convert(folder, data, size=8, force=True).dataset.height == 8 != before.height


@pytest.mark.parametrize("force", [False, True])
def test_files_of_somebody_else_are_never_replaced_by_own_images(tmp_path, force):
    put(tmp_path / "data" / "pets" / "thesis.tex")
    refused(two_classes(tmp_path / "in"), r"thesis\.tex, which conversion did not write", force=force)
    assert (tmp_path / "data" / "pets" / "thesis.tex").read_bytes() == IMAGE


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(errno.ENOSPC, "No space left"), ValueError("bug")])
@pytest.mark.parametrize("at", ["write_beton", "record_of", "write_manifest"])
def test_interrupted_and_failed_conversions_leave_nothing_behind(tmp_path, monkeypatch, error, at):
    def fail(*_args, **_kwargs):
        raise error

    monkeypatch.setattr(module, at, fail)
    with pytest.raises(
        DataError if isinstance(error, OSError) else type(error), match=r"no space left for pets|bug|^$"
    ):
        convert(two_classes(tmp_path / "in"), tmp_path / "data")
    assert list((tmp_path / "data").iterdir()) == []


def test_a_script_without_a_guard_may_convert(tmp_path):
    """Its processes do not run it again."""
    script = textwrap.dedent(f"""
        import mixmo_fast as mf
        print(mf.convert_folder({str(two_classes(tmp_path / "in"))!r}, "pets", {str(tmp_path / "data")!r}).classes)
    """)
    (tmp_path / "script.py").write_text(script)
    done = subprocess.run([sys.executable, tmp_path / "script.py"], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("2\n", "")
