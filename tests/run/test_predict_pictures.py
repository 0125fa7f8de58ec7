"""Answers for pictures: the evaluation's own on the test images, calibrated and abstaining as it says."""

import csv
import io
import json
import re
import shlex
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console

import mixmo_fast as mf
from mixmo_fast.cli.predict_tables import predictions_record, predictions_table, printable
from mixmo_fast.errors import CheckpointError, ConfigError, DataError
from mixmo_fast.run.appearance import Appearance, appearance_of
from mixmo_fast.run.calibration import calibration_of
from mixmo_fast.run.evaluate import Evaluation
from mixmo_fast.run.predict import open_predictor
from mixmo_fast.run.trained import read_weights
from mixmo_fast.runfolder.names import EVALUATION
from mixmo_fast.runfolder.predicted import SavedPredictions
from mixmo_fast.runfolder.record import read_record, write_record
from mixmo_fast.tables import print_table
from pipelines.datasets.store import open_dataset, write_manifest


@pytest.fixture(scope="module")
def evaluation(trained) -> Evaluation:
    return trained.evaluate()


@pytest.fixture(scope="module")
def run(trained, evaluation, tmp_path_factory) -> Path:
    """The run with its evaluation, which is of the last epoch."""
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    shutil.copytree(trained.run, folder)
    write_record(folder / EVALUATION, evaluation.record())
    return folder


@pytest.fixture(scope="module")
def test_images(trained) -> np.ndarray:
    return mf.open_dataset("digits", trained.data).load_images("test")


@pytest.fixture(scope="module")
def pictures(test_images, tmp_path_factory) -> Path:
    """The test split as PNG files."""
    folder = tmp_path_factory.mktemp("pictures")
    for number, pixels in enumerate(test_images):
        Image.fromarray(pixels).save(folder / f"{number:04}.png")
    return folder


@pytest.fixture
def predictor(run, trained) -> mf.Predictor:
    return open_predictor(run, data=trained.data, device="cpu")


def test_the_test_split_as_files_has_the_evaluations_logits(predictor, pictures, evaluation):
    found = predictor.predict(pictures)
    assert found.names == tuple(map(str, sorted(pictures.iterdir()))) and found.unread == ()
    torch.testing.assert_close(found.logits, evaluation.logits, rtol=1e-4, atol=1e-5)
    right = (found.top[:, 0] == evaluation.labels).double().mean().item()
    assert right == pytest.approx(evaluation.scores.top1, abs=1e-9)


def test_confidence_is_that_of_the_fitted_temperature(predictor, test_images, evaluation):
    found = predictor.predict(test_images)
    temperature = torch.tensor(evaluation.scaling.temperatures).log().mean().exp()
    expected = (evaluation.logits.double().mean(1) / temperature).softmax(1)
    torch.testing.assert_close(found.probabilities, expected, rtol=1e-4, atol=1e-6)
    assert torch.equal(found.confidence, found.probabilities.amax(1))


@pytest.mark.parametrize("coverage", [0.3, 0.9, 1.0])
def test_the_chosen_share_of_the_test_images_is_answered(predictor, test_images, coverage):
    found = predictor.predict(test_images, coverage)
    answered = 1 - found.abstain.double().mean().item()
    # One image on the threshold may be rounded either way where batches are cut elsewhere.
    assert coverage - 2 / len(found) <= answered <= coverage + 1 / 200 + 2 / len(found)
    threshold = found.calibration.threshold(coverage)
    assert torch.equal(found.abstain, found.confidence < threshold)


def test_members_opinions_make_the_ensemble(predictor, test_images):
    found = predictor.predict(test_images[:20])
    # The mean of logits: the geometric mean of probabilities, sharpened by the temperature.
    pooled = (found.member_probabilities.log().mean(1) / found.calibration.temperature).softmax(1)
    torch.testing.assert_close(pooled, found.probabilities, rtol=1e-5, atol=1e-8)


def test_an_ensemble_of_probabilities_is_their_mean(trained, run, test_images, tmp_path):
    folder = shutil.copytree(run, tmp_path / "tiny")
    saved = trained.evaluate(ensemble="probabilities").record()
    write_record(folder / EVALUATION, saved.model_copy(update={"temperature_scaling": None}))
    found = mf.open_run(folder).predict(test_images[:20], data=trained.data, device="cpu")
    assert found.calibration.ensemble == "probabilities" and found.calibration.temperature is None
    torch.testing.assert_close(found.member_probabilities.mean(1), found.probabilities)


def test_one_picture_in_every_form_has_one_answer(run, trained, test_images, pictures):
    opened, pixels = mf.open_run(run), test_images[7]
    tensor = torch.from_numpy(pixels).permute(2, 0, 1)
    grey = pixels[..., 0]
    forms = [
        *(pictures / "0007.png", str(pictures / "0007.png"), Image.fromarray(pixels), Image.fromarray(grey)),
        *(pixels, pixels[np.newaxis], [pixels], grey, grey[np.newaxis], tensor, tensor[None], tensor[:1]),
    ]
    expected = opened.predict(forms[0], data=trained.data, device="cpu")
    assert expected.top.shape == (1, 5) and len(expected) == 1
    assert expected.top_names[0][0] == str(expected.top[0, 0].item())
    predictor = opened.predictor(data=trained.data, device="cpu")
    for form in forms[1:]:
        assert torch.equal(predictor.predict(form).logits, expected.logits)
    assert len(predictor.predict([pixels, test_images[:2], forms[0]])) == 4


def test_images_of_another_size_are_made_as_the_originals_were():
    digits, fashion = appearance_of("digits", Path("nowhere")), appearance_of("fashion_mnist", Path("nowhere"))
    original = np.arange(64, dtype=np.uint8).reshape(8, 8, 1).repeat(3, 2)
    doubled = digits.ready(Image.fromarray(original))
    assert np.array_equal(doubled, original.repeat(2, 0).repeat(2, 1))
    original = np.full((28, 28, 3), 77, dtype=np.uint8)
    padded = fashion.ready(Image.fromarray(original))
    assert padded.shape == (32, 32, 3) and (padded[2:-2, 2:-2] == 77).all()
    assert padded.sum() == original.sum(), "black around it"
    assert appearance_of("cifar10", Path("nowhere")).ready(Image.new("RGB", (500, 300))).shape == (32, 32, 3)


def test_the_checkpoint_says_how_images_look_whatever_lies_in_the_data_folder(run, tmp_path):
    weights = read_weights(run, "last", run, print)
    known = weights.data.model_copy(update={"class_names": ("nought", *weights.data.class_names[1:]), "fit": "pad"})
    for data in (tmp_path, Path("nowhere")):
        found = appearance_of("garden", data, known)
        assert (found.name_of(0), found.fit, found.height, found.mean) == ("nought", "pad", 16, known.mean)
    assert appearance_of("digits", tmp_path, weights.data) == appearance_of("digits", Path("nowhere"))
    with pytest.raises(DataError, match="digits: fit: found 'bend', allowed: crop, pad, stretch"):
        appearance_of("digits", tmp_path, known.model_copy(update={"fit": "bend"}))


def test_the_data_sets_own_manifest_counts_for_a_checkpoint_that_kept_nothing(trained, tmp_path):
    own, folder = open_dataset(trained.data, "digits"), tmp_path / "numerals"
    folder.mkdir()
    own = replace(own, name="numerals", class_names=("nought", *own.class_names[1:]))
    (folder / "dataset.json").write_bytes(write_manifest(own))
    assert appearance_of("numerals", tmp_path).name_of(0) == "nought"
    folder = tmp_path / "digits"
    folder.mkdir()
    (folder / "dataset.json").write_text("{")
    told: list[str] = []
    assert appearance_of("digits", tmp_path, notify=told.append) == appearance_of("digits", Path("nowhere"))
    assert "not valid JSON" in told[0]
    with pytest.raises(DataError, match=r"garden.dataset.json: not there, .* --data names the folder"):
        appearance_of("garden", tmp_path)
    nameless = Appearance("x", 8, 8, (0.5,) * 3, (0.5,) * 3)
    assert nameless.name_of(3) == "3"


def test_files_that_are_no_images_are_lines_and_not_the_end(predictor, test_images, tmp_path):
    folder = tmp_path / "mixed"
    (folder / "below").mkdir(parents=True)
    (folder / ".cache").mkdir()
    Image.fromarray(test_images[0]).save(folder / "below" / "b.png")
    Image.fromarray(test_images[0]).save(folder / ".cache" / "seen.png")
    Image.fromarray(test_images[0]).save(folder / "d.jpg", quality=100)
    (folder / ".hidden.png").touch()
    (folder / "c.png").touch()
    (folder / "a.txt").write_text("no image")
    (folder / "huge.ppm").write_bytes(b"P6 60000 60000 255\n")
    found = predictor.predict([folder, tmp_path / "missing.png"])
    assert found.names == (str(folder / "d.jpg"), str(folder / "below" / "b.png")) and found.places == (2, 4)
    assert [(one.place, Path(one.name).name) for one in found.unread] == [
        *((0, "a.txt"), (1, "c.png"), (3, "huge.ppm"), (5, "missing.png")),
    ]
    assert [one.problem.split(",")[0].split(" (")[0] for one in found.unread] == [
        *("no image that Pillow knows", "0 bytes", "declares 60", "cannot be read"),
    ]
    (tmp_path / "nothing").mkdir()
    nothing = predictor.predict(tmp_path / "nothing")
    assert len(nothing) == 0 and nothing.unread[0].problem == "a folder without files"


@pytest.mark.parametrize(
    ("images", "words"),
    [
        (np.zeros((4, 4, 3), dtype=np.float32), "found 4x4x3 of float32, allowed: uint8 arrays"),
        (torch.zeros(4, 4, 3, dtype=torch.uint8), "found 4x4x3 of uint8, allowed: .* tensors"),
        (np.zeros((1, 4, 4, 2), dtype=np.uint8), "found 1x4x4x2 of uint8"),
        (np.zeros((0, 4, 4, 3), dtype=np.uint8), "found 0x4x4x3 of uint8"),
        ([], "found none"),
        (3.5, "found float"),
    ],
)
def test_arrays_of_other_types_and_shapes_are_refused_in_one_line(predictor, images, words):
    with pytest.raises(DataError, match=f"^images: {words}"):
        predictor.predict(images)


def test_numbers_outside_their_range_are_refused(predictor, test_images):
    for coverage in (0, 1.01, float("nan")):
        with pytest.raises(ConfigError, match="coverage: found"):
            predictor.predict(test_images[:1], coverage)
    with pytest.raises(ConfigError, match="top: found 0"):
        predictor.predict(test_images[:1], top=0)
    assert predictor.predict(test_images[:1], top=99).top.shape == (1, 10)


def test_without_an_evaluation_of_these_weights_nothing_is_claimed(run, trained, test_images, tmp_path):
    folder = shutil.copytree(run, tmp_path / "tiny")

    def asked(checkpoint: str = "last") -> mf.Predictions:
        return mf.open_run(folder).predict(test_images[:3], checkpoint, data=trained.data, device="cpu")

    found = asked("2")
    assert found.abstain is None and found.calibration.temperature is None
    assert "is of epoch 4, the checkpoint of 2" in found.calibration.missing
    assert found.calibration.missing.endswith(f"run `mixmo-fast evaluate {folder} --checkpoint 2`")
    weights = replace(read_weights(folder, "last", folder, print), within=True)
    assert "is of epoch 4, the checkpoint of within epoch 5" in calibration_of(weights).missing
    saved = json.loads((folder / EVALUATION).read_text())
    del saved["abstention"]
    (folder / EVALUATION).write_text(json.dumps(saved))
    found = asked()
    assert found.abstain is None and found.calibration.temperature and "older version" in found.calibration.missing
    (folder / EVALUATION).unlink()
    assert "has no evaluation" in asked().calibration.missing
    (folder / EVALUATION).write_text("{")
    with pytest.raises(DataError, match=r"evaluation.json: .*damaged"):
        asked()
    (folder / EVALUATION).unlink()
    with pytest.raises(CheckpointError, match="no such checkpoint"):
        asked("3")


def test_the_command_that_is_named_finds_what_was_missing(trained, pictures, tmp_path, command):
    folder = shutil.copytree(trained.run, tmp_path / "a run")
    places = ("--data", trained.data, "--device", "cpu")
    before = command("predict", folder, pictures / "0001.png", *places, "--checkpoint", "2")
    (line,) = re.findall("run `mixmo-fast (.*)`", before[1])
    assert command(*shlex.split(line), *places)[0] == 0
    code, after, _ = command("predict", folder, pictures / "0001.png", *places, "--checkpoint", "2")
    assert code == 0 and "note:" not in after and "the surest" in after


def test_the_command_shows_and_writes_every_answer(run, trained, pictures, tmp_path, command):
    (tmp_path / "note.txt").write_text("no image")
    files = [pictures / "0003.png", tmp_path / "note.txt", pictures / "0001.png"]
    places = ("--data", trained.data, "--device", "cpu")
    written = ("--csv", tmp_path / "a.csv", "--json", tmp_path / "a.json")
    code, out, err = command("predict", run, *files, *places, *written, "--members", "--top", 3)
    assert (code, err) == (0, "")
    assert "2 of 3 pictures predicted" in out and "member 1" in out and "no image that Pillow" in out
    saved = read_record(tmp_path / "a.json", SavedPredictions)
    assert [one.status == "unread" for one in saved.images] == [False, True, False]
    assert [one.image for one in saved.images] == list(map(str, files))
    with (tmp_path / "a.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    for row, one in zip(rows, saved.images, strict=True):
        assert (row["image"], row["status"]) == (one.image, one.status)
        if one.top:
            assert (row["label"], row["name_3"]) == (str(one.top[0].label), one.top[2].name)
            assert float(row["confidence"]) == pytest.approx(one.confidence, abs=1e-6)
            assert row["member_1_label"] == str(one.members[1].label)


def test_the_command_ends_with_2_only_where_nothing_was_predicted(run, trained, tmp_path, command):
    places = ("--data", trained.data, "--device", "cpu")
    code, out, err = command("predict", run, tmp_path / "missing.png", *places)
    assert code == 2 and "No such file" in out and "0 of 1 pictures predicted" in out
    assert err.startswith("mixmo-fast: no picture could be predicted, of 1; ") and err.count("\n") == 1
    for arguments, words in (
        ((tmp_path, tmp_path), "not a run folder"),
        ((run, tmp_path, "--coverage", "0"), "coverage: found 0, allowed"),
        ((run, tmp_path, "--checkpoint", "77"), "no such checkpoint"),
    ):
        code, _, err = command("predict", *arguments, *places)
        assert (code, len(err.splitlines())) == (2, 1) and words in err


def test_tables_are_whole_at_80_columns(predictor, test_images, tmp_path):
    deep = tmp_path / ("long folder " * 5) / ("picture" * 20 + ".png")
    deep.parent.mkdir()
    Image.fromarray(test_images[0]).save(deep)
    for images, rows in ((deep, 5), ([deep] * 9, 9)):
        saved = predictions_record(predictor.predict(images), predictor)
        console = Console(width=80, record=True, markup=False, force_terminal=True, file=io.StringIO())
        print_table(console, predictions_table(saved, members=True))
        text = console.export_text()
        assert max(map(len, text.splitlines())) <= 80 and "…" not in text
        assert text.count(" %") >= rows


def test_names_that_no_terminal_shows_are_made_ones_that_it_does():
    assert printable("a\x1b[31m\n.png") == "a\ufffd[31m\ufffd.png"
    assert printable("\udcff.png") == "\ufffd.png"
