"""A run folder, or a checkpoint alone, is all that predicting takes: no data set, no configuration, any folder."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from lab import Lab
from places import TESTS

import mixmo_fast as mf
from mixmo_fast.errors import CheckpointError, ConfigError, DataError
from mixmo_fast.run.page import record_evaluation
from mixmo_fast.run.predict import open_predictor
from mixmo_fast.run.same_data import require_same_data
from mixmo_fast.run.trained import read_weights
from mixmo_fast.runfolder.predicted import SavedPredictions
from mixmo_fast.runfolder.record import read_record
from mixmo_fast.runfolder.trained_on import TrainedOn
from mixmo_fast.training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from pipelines.datasets.store import open_dataset

BEFORE = TESTS / "golden" / "run_of_before"
THEIRS = TESTS / "golden" / "reference_wrn10-1_cutmixmo.ckpt"


@pytest.fixture(scope="module")
def own(trained, tmp_path_factory) -> Lab:
    """A run of a data set that no catalogue knows, with its evaluation; its data are nowhere."""
    lab = Lab(tmp_path_factory.mktemp("own"), trained.data)
    shutil.copytree(trained.run, lab.run)
    record_evaluation(lab.evaluate(), lab.run)
    (lab.run / "config.yaml").write_text((lab.run / "config.yaml").read_text().replace("digits", "numerals"))
    for path in lab.run.glob("checkpoints/*.pt"):
        content = vars(load_checkpoint(path))
        known = {**json.loads(content["data"]), "name": "numerals", "class_names": [f"no. {n}" for n in range(10)]}
        changed = {"config": content["config"].replace("digits", "numerals"), "data": json.dumps(known)}
        save_checkpoint(Checkpoint(**content | changed), path)
    return lab


@pytest.fixture
def sent(own, tmp_path, monkeypatch) -> Path:
    """The folder of that run as somebody has it who has nothing else, and works in another folder."""
    (tmp_path / "desk").mkdir()
    monkeypatch.chdir(tmp_path / "desk")
    return Path(shutil.copytree(own.run, tmp_path / "inbox" / "a run"))


@pytest.fixture(scope="module")
def images(trained) -> np.ndarray:
    return mf.open_dataset("digits", trained.data).load_images("test")[:20]


@pytest.fixture(scope="module")
def expected(trained, images, tmp_path_factory) -> torch.Tensor:
    """What the run says where it was trained, at the temperature of its evaluation."""
    lab = Lab(tmp_path_factory.mktemp("home"), trained.data)
    shutil.copytree(trained.run, lab.run)
    record_evaluation(lab.evaluate(), lab.run)
    return open_predictor(lab.run, data=trained.data, device="cpu").predict(images).probabilities


def test_a_run_folder_predicts_the_same_without_its_data(sent, images, expected):
    found = mf.open_run(sent).predict(images, device="cpu")
    assert torch.equal(found.probabilities, expected)
    assert found.calibration.missing is None and found.top_names[0][0].startswith("no. ")
    assert mf.open_run(sent).network()(torch.zeros(1, 3, 16, 16)).shape == (1, 2, 10)


def test_a_checkpoint_alone_predicts_the_same_and_says_what_it_lacks(sent, images, expected, tmp_path):
    alone = Path(shutil.copyfile(sent / "checkpoints" / "last.pt", tmp_path / "alone.pt"))
    found = open_predictor(alone, device="cpu").predict(images)
    assert "alone.pt lies in no run folder" in found.calibration.missing
    assert found.class_names[0] == "no. 0"
    torch.testing.assert_close(found.logits, mf.open_run(sent).predict(images, device="cpu").logits)
    inside = open_predictor(sent / "checkpoints" / "last.pt", device="cpu").predict(images)
    assert inside.calibration.missing is None and torch.equal(inside.probabilities, expected)


def test_the_commands_take_the_folder_and_the_checkpoint(sent, own, command, tmp_path):
    picture, file = own.run / "first_batch.png", tmp_path / "said.json"
    for target in (sent, sent / "checkpoints" / "best.pt"):
        code, _, err = command("predict", target, picture, "--json", file, "--device", "cpu")
        assert (code, err) == (0, "")
        assert read_record(file, SavedPredictions).images[0].top[0].name.startswith("no. ")
    code, _, err = command("export", sent, "--format", "torch-export")
    assert (code, err) == (0, "") and Path("a run.pt2").is_file()
    code, _, err = command("report", sent)
    assert (code, err) == (0, "")
    assert "The recipe in plain words" in (sent / "report.html").read_text()  # of what the summary keeps of the data


def test_what_needs_the_data_names_them_and_what_to_do(sent, command):
    for words in (("evaluate", sent), ("inspect", sent), ("evaluate", sent, "--calibrate-on", "train-holdout")):
        code, _, err = command(*words, "--device", "cpu")
        (line,) = err.splitlines()
        assert code == 2 and "its data set numerals is not in data: --data FOLDER names the folder" in line
        assert "that has it, or run `mixmo-fast convert folder PATH --name numerals --data data`" in line


def test_going_on_without_the_data_says_the_same(own, tmp_path):
    lab = Lab(tmp_path, tmp_path / "nowhere")
    shutil.copytree(own.run, lab.run)
    shutil.copyfile(lab.path("epoch_0002"), lab.path("last"))
    lab.config.write_text((lab.run / "config.yaml").read_text())
    with pytest.raises(DataError, match=r"runs/tiny: its data set numerals is not in .*nowhere: --data FOLDER"):
        lab.train()


@pytest.mark.parametrize(
    ("key", "then", "settings", "said"),
    [
        ("flip", True, {}, "flip true then, false now"),
        ("crop_padding", 4, {}, "crop_padding 4 then, 2 now"),
        ("flip", True, {"flip": False}, None),
        ("crop_padding", 4, {"crop_padding": 1}, None),
        ("flip", None, {}, None),
    ],
)
def test_crops_and_flips_that_changed_are_refused_where_they_count(digits, trained, key, then, settings, said):
    dataset = open_dataset(digits, "digits")
    weights = read_weights(trained.run, "last", trained.run, print)
    known = weights.data.model_copy(update={key: then})
    training = weights.config.data.model_copy(update=settings)
    require_same_data(known, dataset, "it", "put it back")  # to be looked at
    if said is None:
        require_same_data(known, dataset, "it", "put it back", training)
        return
    with pytest.raises(DataError, match=rf"it: was trained on other data .*\({said}\); put it back"):
        require_same_data(known, dataset, "it", "put it back", training)


def test_a_run_goes_on_with_no_other_flips(trained, digits, tmp_path):
    lab = Lab(tmp_path, digits)
    shutil.copytree(trained.run, lab.run)
    content = vars(load_checkpoint(lab.path("epoch_0002")))
    known = TrainedOn.model_validate_json(content["data"])
    assert (known.flip, known.crop_padding) == (False, 2)
    changed = known.model_copy(update={"flip": True}).model_dump_json()
    save_checkpoint(Checkpoint(**content | {"data": changed}), lab.path())
    with pytest.raises(DataError, match="flip true then, false now"):
        lab.train()


def test_a_checkpoint_of_before_says_what_it_lacks_and_where_that_is_from(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(BEFORE, tmp_path / "run")
    np.save(tmp_path / "x.npy", np.zeros(1))
    code, out, _ = command("predict", "run", "x.npy", "--device", "cpu")
    assert code == 2  # for the picture's sake
    (line,) = [line for line in out.splitlines() if "keeps nothing of its data set" in line]
    assert "size, normalisation and class names of digits are taken from the table of published data sets" in line


def test_a_checkpoint_as_target_leaves_no_choice_and_theirs_needs_a_configuration(trained):
    with pytest.raises(ConfigError, match=r"--checkpoint: found best with .*last\.pt, which is a checkpoint itself"):
        open_predictor(trained.path(), "best")
    with pytest.raises(CheckpointError, match="does not say what network it is of: name a configuration") as error:
        open_predictor(THEIRS)
    assert re.search(r"and this file with --checkpoint$", str(error.value))


def test_a_text_that_is_no_configuration_is_no_checkpoint_either(tmp_path):
    (tmp_path / "x.pt").write_text("nothing")
    with pytest.raises(ConfigError):
        read_weights(tmp_path / "x.pt", "last", tmp_path, print)
    (tmp_path / "y.pt").write_bytes(b"PK\x03\x04 cut")
    with pytest.raises(CheckpointError, match=r"y\.pt: "):
        read_weights(tmp_path / "y.pt", "last", tmp_path, print)
