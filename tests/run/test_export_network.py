"""Exported networks say what the run says, tell what they are, and are whole or not there."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

import mixmo_fast as mf
from mixmo_fast.config.load import parse_config
from mixmo_fast.errors import CheckpointError, ConfigError, DataError, MixmoError
from mixmo_fast.run import network_formats
from mixmo_fast.run.deploy import Answering, Exported, export_network
from mixmo_fast.run.predict import open_predictor
from mixmo_fast.runfolder.exported import ExportedNetwork
from mixmo_fast.runfolder.names import EVALUATION
from mixmo_fast.runfolder.record import write_record


@pytest.fixture(scope="module")
def run(trained, tmp_path_factory) -> Path:
    """The run with an evaluation, so that probabilities have a temperature."""
    folder = tmp_path_factory.mktemp("exported_runs") / "tiny"
    shutil.copytree(trained.run, folder)
    write_record(folder / EVALUATION, trained.evaluate().record())
    return folder


@pytest.fixture(scope="module")
def predictions(run, trained) -> mf.Predictions:
    return open_predictor(run, data=trained.data, device="cpu").predict(images_of(trained))


def images_of(trained) -> np.ndarray:
    return mf.open_dataset("digits", trained.data).load_images("test")[:70]


def pixels_of(trained) -> torch.Tensor:
    """As exported networks take them."""
    return torch.from_numpy(images_of(trained)).permute(0, 3, 1, 2).contiguous() / 255


def export(run: Path, format: str, out: Path, **options) -> Exported:
    return export_network(run, format, out, data=Path("nowhere"), **options)


def assert_alike(found, predictions: mf.Predictions) -> None:
    logits, probabilities = (torch.as_tensor(one) for one in found)
    torch.testing.assert_close(logits, predictions.logits, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(probabilities.double(), predictions.probabilities, rtol=1e-4, atol=1e-6)


def test_onnx_says_what_predict_says_for_any_number_of_images(run, trained, predictions, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    found = export(run, "onnx", tmp_path / "tiny.onnx")
    assert found.relative < 1e-5 and found.bytes == (tmp_path / "tiny.onnx").stat().st_size
    session = onnxruntime.InferenceSession(tmp_path / "tiny.onnx", providers=["CPUExecutionProvider"])
    pixels = pixels_of(trained).numpy()
    assert_alike(session.run(["logits", "probabilities"], {"images": pixels}), predictions)
    one = session.run(None, {"images": pixels[:1]})
    np.testing.assert_allclose(one[0], predictions.logits[:1].numpy(), rtol=1e-4, atol=1e-5)
    assert [one.shape for one in session.get_outputs()] == [["rows", 2, 10], ["rows", 10]]
    words = session.get_modelmeta().custom_metadata_map
    assert words == found.facts.as_words()
    assert json.loads(words["class_names"]) == list("0123456789")
    assert (json.loads(words["height"]), json.loads(words["folded"]), words["dataset"]) == (16, True, "digits")
    assert json.loads(words["temperature"]) == pytest.approx(predictions.calibration.temperature)


def test_torch_export_says_what_predict_says_and_tells_what_it_is(run, trained, predictions, tmp_path):
    found = export(run, "torch-export", tmp_path / "tiny.pt2")
    extra = {"metadata.json": ""}
    program = torch.export.load(tmp_path / "tiny.pt2", extra_files=extra).module()
    assert_alike(program(pixels_of(trained)), predictions)
    assert program(pixels_of(trained)[:1])[0].shape == (1, 2, 10)
    assert ExportedNetwork.model_validate_json(extra["metadata.json"]) == found.facts


def test_safetensors_come_back_bit_for_bit_and_train_on(run, trained, tmp_path):
    safetensors = pytest.importorskip("safetensors")
    found = export(run, "safetensors", tmp_path / "tiny", checkpoint="2")
    network, expected = mf.load_exported(tmp_path / "tiny"), mf.open_run(run).network(2)
    assert not network.training and network.members == 2
    ours, theirs = network.state_dict(), expected.state_dict()
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert all(parameter.requires_grad for parameter in network.parameters())
    assert sorted(path.name for path in (tmp_path / "tiny").iterdir()) == ["config.json", "model.safetensors"]
    with safetensors.safe_open(tmp_path / "tiny" / "model.safetensors", "pt") as file:
        assert file.metadata() == {"format": "pt"} | found.facts.as_words()
    assert found.facts.epoch == 2 and not found.facts.folded and "is of epoch 4" in found.missing
    assert parse_config(found.facts.configuration, "it") == mf.open_run(run).config


@pytest.mark.parametrize("ensemble", ["logits", "probabilities"])
def test_probabilities_are_those_of_the_ensemble_at_its_temperature(ensemble):
    logits = torch.randn(3, 2, 5)
    answering = Answering(lambda _: logits, (0.0,) * 3, (1.0,) * 3, ensemble, 2.0)
    opinions = logits.softmax(2)
    pooled = opinions.mean(1) if ensemble == "probabilities" else opinions.log().mean(1).exp()
    root = pooled.sqrt()  # a temperature of 2
    torch.testing.assert_close(answering(torch.zeros(3, 3, 1, 1))[1], root / root.sum(1, keepdim=True))


def test_what_is_there_is_replaced_only_if_told_so_and_if_it_is_an_export(run, tmp_path):
    out = tmp_path / "deep" / "tiny"
    export(run, "safetensors", out, checkpoint="2")
    with pytest.raises(ConfigError, match=r"tiny: exists already; allowed: another name, or --force"):
        export(run, "safetensors", out)
    assert json.loads((out / "config.json").read_text())["epoch"] == 2
    export(run, "safetensors", out, force=True)
    assert json.loads((out / "config.json").read_text())["epoch"] == 4
    assert [path.name for path in out.parent.iterdir()] == ["tiny"]
    with pytest.raises(ConfigError, match="cannot be replaced; allowed: another name, or a file"):
        export(run, "torch-export", out, force=True)
    (out / "notes.txt").touch()
    with pytest.raises(ConfigError, match=r"cannot be replaced; allowed: .* model.safetensors and config.json alone"):
        export(run, "safetensors", out, force=True)
    assert (out / "notes.txt").exists()


def test_a_file_that_says_other_things_than_torch_is_not_written(run, tmp_path, monkeypatch):
    write = network_formats.torch_export_bytes

    def slightly_wrong(*arguments):
        content, call = write(*arguments)
        return content, lambda images: (call(images)[0] * 1.01, call(images)[1])

    monkeypatch.setattr(network_formats, "torch_export_bytes", slightly_wrong)
    with pytest.raises(MixmoError, match=r"not written: its outputs differ from torch's by .* allowed: 0.001"):
        export(run, "torch-export", tmp_path / "tiny.pt2")
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_exported_is_one_line(run, tmp_path, monkeypatch):
    with pytest.raises(ConfigError, match=r"--format: found 'tflite', allowed: onnx, torch-export, safetensors"):
        export(run, "tflite", tmp_path / "x")
    with pytest.raises(CheckpointError, match="no such checkpoint"):
        export(run, "safetensors", tmp_path / "x", checkpoint="3")
    (tmp_path / "file").touch()
    for format in ("safetensors", "torch-export"):
        with pytest.raises(MixmoError, match=r"x: cannot write: (Not a directory|File exists)"):
            export(run, format, tmp_path / "file" / "x")
    monkeypatch.setattr(network_formats, "find_spec", lambda _: None)
    with pytest.raises(ConfigError, match=r"onnx: needs onnx and .*: pip install 'mixmo-fast\[export\]'"):
        export(run, "onnx", tmp_path / "x")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_damaged_export_is_one_line(run, tmp_path):
    export(run, "safetensors", tmp_path / "tiny")
    weights, facts = tmp_path / "tiny" / "model.safetensors", tmp_path / "tiny" / "config.json"
    whole, text = weights.read_bytes(), facts.read_text()
    with pytest.raises(CheckpointError, match="not an exported network"):
        mf.load_exported(tmp_path)
    weights.write_bytes(whole[:1000])
    with pytest.raises(CheckpointError, match=r"model.safetensors: not readable safetensors"):
        mf.load_exported(tmp_path / "tiny")
    weights.write_bytes(whole)
    facts.write_text(text.replace("width: 1,", "width: 2,"))
    with pytest.raises(CheckpointError, match=r"model.safetensors: a checkpoint of another network"):
        mf.load_exported(tmp_path / "tiny")
    facts.write_text(text.replace('"classes": 10', '"classes": "ten"'))
    with pytest.raises(DataError, match=r"config.json: classes: "):
        mf.load_exported(tmp_path / "tiny")


@pytest.mark.parametrize("format", ["onnx", "torch-export"])
def test_the_command_prints_two_lines_and_nothing_of_the_exporters(run, tmp_path, command, monkeypatch, format):
    monkeypatch.chdir(tmp_path)
    code, out, err = command("export", run, "--format", format)
    assert (code, err) == (0, "")
    first, second = out.splitlines()
    (written,) = tmp_path.iterdir()
    assert first.startswith(f"wrote {written.name}: epoch 4 of {run}") and second.startswith("largest difference")
    code, out, err = command("export", run, "--format", format)
    assert (code, out, len(err.splitlines())) == (2, "", 1) and "--force" in err
