"""What was found of one checkpoint stays when another is evaluated, and goes with the weights that it was found of."""

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from lab import Lab
from sample_run import inspection, write_json

import mixmo_fast as mf
from mixmo_fast.errors import MixmoError
from mixmo_fast.report.run_report import write_report
from mixmo_fast.run.calibration import calibration_of
from mixmo_fast.run.inspect import inspect_run
from mixmo_fast.run.page import page_damage, record_evaluation, record_inspection
from mixmo_fast.run.trained import read_weights
from mixmo_fast.runfolder.evaluated import ForeignSet
from mixmo_fast.runfolder.kept import read_evaluations
from mixmo_fast.runfolder.names import EVALUATIONS, clear_pipes, remove_run
from mixmo_fast.training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint, weights_sha256

FOREIGN = (ForeignSet(dataset="elsewhere", images=7),)


@pytest.fixture(autouse=True)
def figures_take_no_time(monkeypatch):
    """Nothing here looks at what is drawn."""
    monkeypatch.setattr("mixmo_fast.report.page.as_svg", lambda plot, theme: "<svg/>")
    monkeypatch.setattr("mixmo_fast.report.run_plots.write_png", _write_nothing)


def _write_nothing(plots, path: Path, title: str = "") -> Path:
    path.write_bytes(b"drawn")
    return path


@pytest.fixture
def place(trained, tmp_path) -> Lab:
    """A copy of a finished run of four epochs, with checkpoints of 2 and 4 of them."""
    lab = Lab(tmp_path, trained.data)
    shutil.copytree(trained.run, lab.run)
    return lab


def saved(lab: Lab, checkpoint: str, name: str = "evaluation") -> dict:
    return json.loads((lab.run / EVALUATIONS / checkpoint / f"{name}.json").read_text())


def inspected(lab: Lab, which: str):
    return inspect_run(lab.run, which, lab.data, lab.run, "cpu", print)


def test_each_checkpoint_keeps_its_evaluation_and_its_pictures(place):
    record_evaluation(replace(place.evaluate("last"), ood=FOREIGN), place.run)
    record_evaluation(place.evaluate("2"), place.run)
    record_inspection(inspected(place, "2"), place.run)
    assert (saved(place, "last")["epoch"], saved(place, "epoch_0002")["epoch"]) == (4, 2)
    assert saved(place, "last")["ood"][0]["dataset"] == "elsewhere" and saved(place, "epoch_0002")["ood"] == []
    pictures = {path.stem for path in (place.run / EVALUATIONS / "epoch_0002").glob("*.png")}
    assert {"reliability", "encoders"} <= pictures
    assert not (place.run / EVALUATIONS / "last" / "encoders.png").exists()
    run = mf.open_run(place.run)
    assert list(run.evaluations) == ["last", "epoch_0002"] and run.evaluation == run.evaluations["last"]


def test_the_same_weights_keep_what_was_found_and_others_do_not(place):
    record_evaluation(replace(place.evaluate("last"), ood=FOREIGN), place.run)
    record_inspection(inspected(place, "last"), place.run)
    record_evaluation(place.evaluate("last", target=place.run.resolve()), place.run)
    assert saved(place, "last")["ood"][0]["dataset"] == "elsewhere" and saved(place, "last", "inspection")
    (place.run / EVALUATIONS / "last" / "robustness.png").write_bytes(b"of before")
    content = vars(load_checkpoint(place.path()))  # as when it was trained on, or again
    weights = {name: tensor + 0.01 if tensor.ndim else tensor for name, tensor in content["network"].items()}
    save_checkpoint(Checkpoint(**content | {"network": weights}), place.path())
    record_evaluation(place.evaluate("last"), place.run)
    assert saved(place, "last")["ood"] == []
    left = {path.name for path in (place.run / EVALUATIONS / "last").iterdir()}
    assert "inspection.json" not in left and "encoders.png" not in left and "robustness.png" not in left


def test_a_checksum_is_of_names_types_shapes_and_bits():
    state = {"a": torch.arange(6.0), "n": torch.tensor(3), "h": torch.ones(2, dtype=torch.bfloat16)}
    same = {name: state[name].clone() for name in reversed(state)}
    assert weights_sha256(state) == weights_sha256(same)
    others = ({"a": torch.arange(6.0).view(2, 3)}, {"a": torch.arange(6)}, {"a": -state["a"]}, {"b": state["a"]})
    assert len({weights_sha256(one) for one in ({"a": state["a"]}, *others)}) == 5


def test_what_an_earlier_version_left_is_of_the_checkpoint_that_it_names(place):
    old = replace(place.evaluate("best"), ood=FOREIGN).record().as_dict()
    del old["weights_sha256"]
    write_json(place.run / "evaluation.json", old)
    looked = inspection() | {"checkpoint": "runs/tiny/checkpoints/best.pt", "epoch": old["epoch"]}
    write_json(place.run / "inspection.json", looked)
    for name in ("reliability", "encoders"):
        (place.run / f"{name}.png").write_bytes(b"of before")
    (one,) = read_evaluations(place.run)
    assert one.checkpoint == "best" and mf.open_run(place.run).evaluation.ood == FOREIGN
    record_evaluation(place.evaluate("last"), place.run)
    assert saved(place, "best") == old and saved(place, "last")["ood"] == []
    assert saved(place, "best", "inspection") == looked
    assert {path.name for path in place.run.glob("*.png")} <= {"first_batch.png", "learning_curves.png", "members.png"}
    assert not (place.run / "evaluation.json").exists() and not (place.run / "inspection.json").exists()
    record_evaluation(place.evaluate("best"), place.run)  # of the same scores
    assert saved(place, "best")["ood"][0]["dataset"] == "elsewhere"


def test_a_damaged_file_of_an_earlier_version_is_replaced(place):
    (place.run / "evaluation.json").write_text("{")
    assert "evaluation.json" in page_damage(place.run)
    record_evaluation(place.evaluate("last"), place.run)
    assert page_damage(place.run) is None


def test_training_again_evaluates_the_last_epoch_where_only_another_was(place):
    record_evaluation(place.evaluate("best"), place.run)
    assert page_damage(place.run) == ""
    record_evaluation(place.evaluate("last"), place.run)
    assert page_damage(place.run) is None
    write_json(place.run / EVALUATIONS / "last" / "evaluation.json", saved(place, "last") | {"epoch": 3})
    assert page_damage(place.run) == "", "which was the last one before the run was made longer"


@pytest.mark.parametrize("name", ["..", "a/..", ".", "", "/", "a\0b.pt"])
def test_a_record_of_no_files_name_is_taken_for_last(place, name):
    write_json(place.run / "evaluation.json", place.evaluate("last").record().as_dict() | {"checkpoint": name})
    record_evaluation(place.evaluate("2"), place.run)
    assert sorted(path.name for path in (place.run / EVALUATIONS).iterdir()) == ["epoch_0002", "last"]
    assert saved(place, "last")["checkpoint"] == name


def test_an_answer_is_calibrated_by_whatever_evaluation_is_of_its_weights(place):
    record_evaluation(place.evaluate("2"), place.run)
    shutil.copyfile(place.path("epoch_0002"), place.path("best"))
    of_best = calibration_of(read_weights(place.run, "best", place.run, print))
    assert of_best.missing is None and of_best.temperature
    path = place.run / EVALUATIONS / "epoch_0002" / "evaluation.json"
    write_json(path, saved(place, "epoch_0002") | {"weights_sha256": "0" * 64})
    of_best = calibration_of(read_weights(place.run, "best", place.run, print))
    assert of_best.temperature is None and "is of epoch 2, the checkpoint of 2 with other weights" in of_best.missing


def test_a_page_has_all_evaluated_checkpoints_side_by_side(place):
    record_evaluation(replace(place.evaluate("last"), ood=FOREIGN), place.run)
    page = place.run / "report.html"
    assert "side by side" not in page.read_text() and "Other checkpoints" not in page.read_text()
    record_evaluation(place.evaluate("2"), place.run)
    text = page.read_text()
    assert "Evaluated checkpoints side by side" in text and "Other checkpoints</h2>" in text
    assert '<th scope="col" class="number">last, epoch 4</th>' in text and "<h3>epoch_0002, epoch 2</h3>" in text
    assert write_report(place.run).read_text().count("ECE, 15 equal bins, scaled") == 1


def test_a_score_of_several_checkpoints_stands_in_one_table(place):
    record_evaluation(place.evaluate("last"), place.run)
    record_evaluation(place.evaluate("2"), place.run)
    page = write_report(place.run).read_text()
    _, scores, beside, *_ = page.split("<caption>")
    assert "Test scores" in scores and "Evaluated checkpoints side by side" in beside
    for row in ("Top-1", "NLL, nats", "ECE, 15 equal bins"):
        heading = f'<th scope="row">{row}</th>'
        assert heading in scores and heading not in beside
    assert "ECE, 15 equal bins, scaled" in beside.split("</table>")[0]


def test_from_scratch_takes_evaluations_but_nothing_of_others(place, tmp_path):
    record_evaluation(place.evaluate("last"), place.run)
    record_evaluation(place.evaluate("best"), place.run)
    (place.run / EVALUATIONS / "best" / "notes.txt").write_text("mine")
    remove_run(place.run)
    assert [path.name for path in (place.run / EVALUATIONS).rglob("*")] == ["best", "notes.txt"]
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "evaluation.json").write_text("{}")
    (place.run / EVALUATIONS / "last").symlink_to(tmp_path / "theirs")
    with pytest.raises(MixmoError, match="last: is a link, which nothing is removed through"):
        remove_run(place.run)
    assert (tmp_path / "theirs" / "evaluation.json").is_file()


def test_a_pipe_in_the_place_of_an_evaluation_is_not_waited_for(place):
    (place.run / EVALUATIONS / "last").mkdir(parents=True)
    os.mkfifo(place.run / EVALUATIONS / "last" / "evaluation.json")
    assert "found a pipe or a device" in page_damage(place.run)
    clear_pipes(place.run)
    assert page_damage(place.run) == ""
