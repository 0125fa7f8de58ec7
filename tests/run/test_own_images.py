"""Claims about a run on own images: from a folder of photographs to a trained network, by every command."""

import json
import re
import shutil

import numpy as np
import own_images
import pytest
import torch
from lab import CONFIG, Lab
from PIL import Image
from places import REPOSITORY
from rich.console import Console

import mixmo_fast as mf
from mixmo_fast.config.load import parse_config
from mixmo_fast.doctor.examine import describe_dataset
from mixmo_fast.reproduce.plan import plan_reproduction, read_plan, write_plan
from mixmo_fast.reproduce.reporting import write_comparison
from mixmo_fast.run.evaluate import evaluate_run

PETS = CONFIG.replace("dataset: digits, holdout: 0.5", "dataset: pets").replace("rows: 64", "rows: 4")


@pytest.fixture(scope="module")
def pets(tmp_path_factory) -> Lab:
    """A finished run on own images."""
    folder = tmp_path_factory.mktemp("pets")
    mf.convert_folder(own_images.write_folders(folder / "photographs"), "pets", folder / "data", notify=lambda _: None)
    place = Lab(folder, folder / "data", PETS)
    place.train("schedule.epochs=1")
    return place


@pytest.mark.parametrize("fit", ["crop", "pad", "stretch"])
def test_an_original_photograph_is_predicted_as_its_converted_image_is(tmp_path, fit):
    """To the bit: one piece of code makes data sets and pictures ready, shrunk large ones included."""
    rng = np.random.default_rng(3)
    paths = []
    for split, count in (("train", 4), ("val", 2)):
        for number in range(count):
            for name, size in (("ant", (200, 150)), ("bee", (40, 90)), ("cow", (31, 17))):
                pixels = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
                path = tmp_path / "photographs" / split / name / f"{number}.{'jpg' if number % 2 else 'png'}"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels).save(path, exif=orientation(1 + number))
                paths += [path] if split == "val" else []
    dataset = mf.convert_folder(
        tmp_path / "photographs", "large", tmp_path / "data", size=16, fit=fit, notify=lambda _: None
    )
    (tmp_path / "large").mkdir()
    place = Lab(tmp_path / "large", tmp_path / "data", PETS.replace("pets", "large"))
    place.train("schedule.epochs=1", "batch.rows=4")
    answers = mf.open_run(place.run).predict(sorted(paths), data="nowhere", device="cpu")
    converted = mf.open_run(place.run).predict(dataset.load_images("test"), data="nowhere", device="cpu")
    assert not answers.unread and len(answers) == dataset.test_images == 6
    assert torch.equal(answers.logits, converted.logits)


def orientation(number: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = number
    return exif


def one_line(result: tuple[int, str, str], *parts: str) -> None:
    code, _, err = result
    assert code == 2 and err.count("\n") == 1, err
    assert [part for part in parts if part not in err] == [], err


def test_the_command_converts_and_the_network_is_trained_evaluated_and_looked_at(command, tmp_path):
    own_images.write_parquet(tmp_path / "photographs")
    (tmp_path / "pets.yaml").write_text(PETS)
    data, runs = ("--data", tmp_path / "data"), ("--runs", tmp_path / "runs")
    code, out, err = command("convert", "folder", tmp_path / "photographs", "--name", "pets", *data)
    assert (code, err) == (0, "")
    assert "12 training and 6 test images of 16x16, 3 classes" in out
    one_line(command("convert", "folder", tmp_path / "photographs", "--name", "pets", *data), "--force replaces it")
    short = ("--set", "schedule.epochs=1")
    code, out, err = command("train", tmp_path / "pets.yaml", *data, *runs, *short, "--device", "cpu")
    assert code == 0, err
    page = (tmp_path / "runs" / "pets" / "report.html").read_text()
    assert "bee" in page and "pets: images of 16x16 pixels in 3 classes" in page
    for words in (
        ("evaluate", tmp_path / "pets.yaml", *runs, "--device", "cpu", "--ood", "digits", "--robustness", "synthetic"),
        ("inspect", tmp_path / "runs" / "pets", "--device", "cpu"),
        ("preview", tmp_path / "pets.yaml", "--out", tmp_path / "preview.png"),
        ("config", "explain", tmp_path / "pets.yaml"),
        ("report", tmp_path / "runs" / "pets"),
        ("reproduce", tmp_path / "pets.yaml", "--dry-run", "--out", tmp_path / "reproduction"),
        ("doctor",),
    ):
        code, out, err = command(*words, *data)
        assert code == 0, (words, err)
    assert "pets" in out and "12 + 6 images of 16x16, sizes are right" in out


def test_the_documented_configuration_is_one():
    (text,) = re.findall(r"```yaml\n(.*?)```", (REPOSITORY / "docs" / "own-images.md").read_text(), flags=re.DOTALL)
    assert parse_config(text, "own-images.md").data.dataset == "pets"


def test_own_images_are_told_apart_from_those_of_another_network(trained, digits, pets, tmp_path):
    """Both ways: own images as the foreign ones, and foreign ones for a network of own images."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "digits").symlink_to(digits / "digits")
    (tmp_path / "data" / "pets").symlink_to(pets.data / "pets")
    for place, other in ((trained, "pets"), (pets, "digits")):
        found = evaluate_run(place.run, print, checkpoint="last", data=tmp_path / "data", device="cpu", ood=(other,))
        assert [one.dataset for one in found.ood] == [other]


def test_a_name_that_nobody_knows_lists_those_there_are(command, pets):
    result = command("train", pets.config, "--set", "data.dataset=pest", "--data", pets.data)
    one_line(
        result,
        "unknown data set 'pest' (did you mean pets?): the known ones are digits, ",
        f"and in {pets.data} pets; `mixmo-fast convert folder PATH --name pest --data {pets.data}` makes one",
    )
    one_line(
        command("evaluate", pets.config, "--runs", pets.folder / "runs", "--data", pets.folder), "its data set pets is"
    )
    one_line(command("config", "explain", pets.config, "--data", pets.folder), "unknown data set 'pets'")
    one_line(command("reproduce", pets.config, "--dry-run", "--data", pets.folder), "unknown data set 'pets'")


def test_damage_is_mended_by_the_command_for_own_images(pets, tmp_path):
    shutil.copytree(pets.data / "pets", tmp_path / "pets")
    assert describe_dataset("pets", tmp_path, verify=True).state == "ok"
    (tmp_path / "pets" / "train_images.npy").write_bytes(b"")
    found = describe_dataset("pets", tmp_path, verify=False)
    assert found.state == "damaged"
    assert found.remedy == f"mixmo-fast convert folder PATH --name pets --data {tmp_path} --force"


def test_a_plan_keeps_what_it_has_to_know_of_own_images_and_nothing_of_others(pets, tmp_path):
    (run,) = plan_reproduction([str(pets.config)], [1], data=pets.data).runs
    assert (run.steps, run.own_data.classes, run.title.rpartition(", ")[2]) == (4 * 3, 3, "pets")
    assert run.flop > 0
    write_plan(plan_reproduction([str(pets.config), "fashion"], [1], data=pets.data), tmp_path)
    own, *others = json.loads((tmp_path / "plan.json").read_text())["runs"]
    assert own["own_data"] == {"train_images": 12, "classes": 3, "height": 16, "width": 16}
    assert all("own_data" not in one for one in others)
    assert read_plan(tmp_path).runs[0] == run


def test_a_run_on_own_images_is_compared_though_they_are_gone(pets, tmp_path):
    page = write_comparison([pets.folder / "runs"], Console(quiet=True), tmp_path, data=tmp_path)
    assert "pets" in page.read_text()
