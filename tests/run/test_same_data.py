"""A run knows its data: it goes on with no others, and is scored on others only where they are named."""

import dataclasses
import json
import shutil
from pathlib import Path

import pytest
import torch
from lab import Lab

from mixmo_fast.errors import ConfigError, DataError
from mixmo_fast.run.same_data import trained_on
from mixmo_fast.runfolder.names import SUMMARY
from mixmo_fast.runfolder.record import read_record
from mixmo_fast.runfolder.records import RunSummary
from mixmo_fast.runfolder.trained_on import TrainedOn, difference
from mixmo_fast.training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from pipelines.datasets.catalog import DATASETS
from pipelines.datasets.convert import write_folder
from pipelines.datasets.sources import OriginalImages
from pipelines.datasets.store import Dataset, open_dataset


def write(digits: Path, data: Path, change=lambda arrays: arrays, **facts) -> Dataset:
    """The digits in another data folder, changed: the arrays by a function, what is known of them by facts.

    Facts of the catalogue are those of its name alone, so that other ones need another name.
    """
    own = open_dataset(digits, "digits")
    arrays = {"train": own.load_images("train").copy(), "test": own.load_images("test").copy()}
    labels = {"train": own.load_labels("train").copy(), "test": own.load_labels("test").copy()}
    change((arrays, labels))
    info = dataclasses.replace(DATASETS["digits"], **facts)
    (data / info.name).mkdir(parents=True)
    content = OriginalImages(arrays["train"], labels["train"], arrays["test"], labels["test"], ("x",), verified=False)
    write_folder(info, content, data / info.name)
    return open_dataset(data, info.name)


def one_training_pixel(content) -> None:
    content[0]["train"][0, 0, 0, 0] ^= 1


def one_test_label(content) -> None:
    content[1]["test"][0] = (content[1]["test"][0] + 1) % 10


def one_image_less(content) -> None:
    for arrays in content:
        arrays["train"] = arrays["train"][1:]


@pytest.fixture
def a_run(tmp_path, trained) -> Lab:
    """A copy of a finished run of four epochs."""
    lab = Lab(tmp_path, trained.data)
    shutil.copytree(trained.run, lab.run)
    return lab


def test_a_run_keeps_what_it_was_trained_on_in_checkpoints_and_summary(trained, digits):
    expected = trained_on(open_dataset(digits, "digits"))
    assert expected.train_images == 1438 and len(expected.train_images_sha256) == 64
    for name in ("last", "best"):
        assert TrainedOn.model_validate_json(load_checkpoint(trained.path(name)).data) == expected
    assert read_record(trained.run / SUMMARY, RunSummary).data == expected


@pytest.mark.parametrize(
    ("change", "then", "said"),
    [
        (one_training_pixel, {}, "other training images: sha256 "),
        (one_test_label, {}, "other test labels: sha256 "),
        (one_image_less, {}, "1,438 training images then, 1,437 now"),
        (lambda _: None, {"mean": (0.3,) * 3}, "mean 0.3, 0.3, 0.3 then, 0.3054, 0.3054, 0.3054 now"),
        (lambda _: None, {"class_names": tuple("1023456789")}, "class '1' then, '0' in its place now"),
        (lambda _: None, {"classes": 11, "class_names": ()}, "11 classes then, 10 now"),
    ],
)
def test_other_data_under_the_same_name_are_refused_in_a_line_that_says_what_differs(
    a_run, digits, tmp_path, change, then, said
):
    write(digits, tmp_path / "other", change)
    content = vars(load_checkpoint(a_run.path()))
    known = TrainedOn.model_validate_json(content["data"]).model_copy(update=then)
    save_checkpoint(Checkpoint(**content | {"data": known.model_dump_json()}), a_run.path())
    (a_run.run / SUMMARY).unlink()
    before = a_run.path().read_bytes()
    for refused in (
        lambda: a_run.train(data=tmp_path / "other"),
        lambda: a_run.evaluate(data=tmp_path / "other"),
    ):
        with pytest.raises(DataError) as error:
            refused()
        assert said in str(error.value) and "\n" not in str(error.value)
        assert "was trained on other data than" in str(error.value)
    assert a_run.path().read_bytes() == before


def test_the_same_data_converted_again_are_the_same(a_run, digits, tmp_path):
    write(digits, tmp_path / "again", title="Another title")
    assert a_run.evaluate(data=tmp_path / "again").scores.top1 == a_run.evaluate().scores.top1


def test_a_checkpoint_that_does_not_know_its_data_goes_on_as_before(a_run, digits, tmp_path):
    content = vars(load_checkpoint(a_run.path()))
    save_checkpoint(Checkpoint(**content | {"data": ""}), a_run.path())
    write(digits, tmp_path / "other", one_training_pixel)
    assert a_run.evaluate(data=tmp_path / "other").scores.top1 == a_run.evaluate().scores.top1


def test_a_damaged_record_of_the_data_is_one_line(a_run):
    content = vars(load_checkpoint(a_run.path()))
    save_checkpoint(Checkpoint(**content | {"data": '{"name": 3}'}), a_run.path())
    with pytest.raises(DataError, match=r"last\.pt: data: name: "):
        a_run.evaluate()


def test_another_set_of_the_same_classes_is_scored_with_the_networks_own_normalisation(a_run, tmp_path):
    """As CIFAR-10.1 is with a network of CIFAR-10; the network's own set is not even needed."""
    everything = tmp_path / "everything"
    shutil.copytree(a_run.data, everything)
    half = write(a_run.data, everything, keep_half, name="new_digits", mean=(0.9,) * 3)
    whole, found = a_run.evaluate(), a_run.evaluate(on="new_digits", data=everything)
    assert found.record().dataset == "new_digits" and found.trained.dataset.mean == whole.trained.dataset.mean
    assert half.mean != found.trained.dataset.mean
    torch.testing.assert_close(found.logits, whole.logits[:180], rtol=1e-5, atol=1e-5)
    shutil.rmtree(everything / "digits")
    assert a_run.evaluate(on="new_digits", data=everything).scores.top1 == found.scores.top1


def keep_half(content) -> None:
    for arrays in content:
        arrays["test"] = arrays["test"][:180]


def test_naming_the_networks_own_set_changes_nothing(a_run):
    found = a_run.evaluate(on="digits")
    assert found.trained.on is None and found.trained.run == a_run.run


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        ({"classes": 11, "class_names": ()}, "has 11 classes, allowed: 10, as digits has"),
        ({"class_names": tuple("0123456798")}, "class 8 is '9' there and '8' in digits"),
    ],
)
def test_a_set_of_other_classes_is_refused(a_run, tmp_path, facts, said):
    write(a_run.data, tmp_path / "other", name="odd", **facts)
    with pytest.raises(DataError, match=said):
        a_run.evaluate(on="odd", data=tmp_path / "other")


def test_a_set_of_another_size_names_the_size_to_convert_it_to(a_run, tmp_path):
    def enlarge(content) -> None:
        for split, images in content[0].items():
            content[0][split] = images.repeat(2, axis=1).repeat(2, axis=2)

    write(a_run.data, tmp_path / "other", enlarge, name="large", height=32, width=32)
    with pytest.raises(DataError, match="its images are 32x32, those of digits 16x16: convert it with that --size"):
        a_run.evaluate(on="large", data=tmp_path / "other")


def test_held_out_images_are_those_of_the_networks_own_set(a_run):
    with pytest.raises(ConfigError, match="found train-holdout with --on, allowed: test-halves"):
        a_run.evaluate(on="new_digits", calibrate_on="train-holdout")


def test_the_command_leaves_the_runs_own_evaluation_alone(a_run, tmp_path, command):
    write(a_run.data, tmp_path / "other", name="new_digits")
    kept = {path: path.read_bytes() for path in a_run.run.rglob("*") if path.is_file()}
    file = tmp_path / "on.json"
    code, out, err = command(
        *("evaluate", a_run.run, "--on", "new_digits", "--data", tmp_path / "other", "--json", file, "--device", "cpu")
    )
    assert code == 0, err
    assert "new_digits, 359 test images" in out and "keeps what it has of its own data" in out
    assert json.loads(file.read_text())["dataset"] == "new_digits"
    assert {path: path.read_bytes() for path in a_run.run.rglob("*") if path.is_file()} == kept


def test_the_first_difference_is_told_and_titles_are_none(digits):
    known = trained_on(open_dataset(digits, "digits"))
    assert difference(known, known.model_copy(update={"title": "x"})) is None
    for key in ("train_images_sha256", "train_labels_sha256", "test_images_sha256", "test_labels_sha256"):
        assert difference(known, known.model_copy(update={key: "0" * 64})).startswith("other ")
    assert difference(known, known.model_copy(update={"width": 8})) == "images of 16x16 then, 16x8 now"
