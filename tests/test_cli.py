"""The command line as a user meets it, above all when something is wrong: one line on stderr, exit code 2."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from mixmo_fast import cli

ROOT = Path(__file__).parents[1]
CONFIG = """
data: {dataset: digits}
network: {kind: wide_resnet, depth: 10, width: 1, members: 2}
mixing: {method: linear}
batch: {rows: 128, repetitions: 2}
optimizer: {lr: 0.05, weight_decay: 0.0006}
schedule: {epochs: 1, warmup_steps: 22}
"""


@pytest.fixture
def config(tmp_path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(CONFIG)
    return path


@pytest.fixture
def run(monkeypatch, capsys):
    """Runs a command in this process: (exit code, stdout, stderr)."""

    def command(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["mixmo-fast", *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            cli.main()
            sys.exit(0)
        out, err = capsys.readouterr()
        return stopped.value.code, out, err

    return command


def assert_one_line(result: tuple[int, str, str], *parts: str) -> None:
    code, _, err = result
    assert code == 2
    assert len(err.splitlines()) == 1, err
    assert err.startswith("mixmo-fast: ")
    for part in parts:
        assert part in err


def test_convert_train_and_evaluate(run, config, tmp_path):
    """The main job, with the data set converted on the way."""
    place = ("--data", tmp_path / "data", "--runs", tmp_path / "runs")
    code, out, err = run("train", config, *place)
    assert (code, err) == (0, "")
    assert "digits is not converted yet" in out
    assert "epoch 1/1" in out
    code, out, _ = run("convert", "digits", "--data", tmp_path / "data")
    assert code == 0
    assert "already converted" in out
    scores, predictions = tmp_path / "out" / "scores.json", tmp_path / "out" / "predictions.npz"
    code, out, _ = run("evaluate", config, *place, "--json", scores, "--save-predictions", predictions)
    assert code == 0
    assert "top-1" in out
    assert "member 1" in out
    summary = json.loads((tmp_path / "runs" / "tiny" / "summary.json").read_text())
    assert json.loads(scores.read_text())["top1"] == summary["best_on_test"]["top1"]
    assert predictions.stat().st_size > 1000


@pytest.mark.parametrize(
    ("line", "parts"),
    [
        ("optimiser: {lr: 1}", ("optimiser", "optimizer")),
        ("seed: one", ("seed", "'one'")),
        ("evaluation: {rows: 0}", ("evaluation.rows", "0")),
        ("batch: {rows: 64}", ("batch", "line 8", "twice")),
        ("batch: {rows: 64, rows: 32}", ("line 8",)),
    ],
)
def test_a_faulty_configuration_is_one_line(run, config, line, parts):
    config.write_text(CONFIG + line + "\n")
    assert_one_line(run("train", config), str(config), *parts)


def test_rows_that_repetitions_do_not_divide_are_one_line(run, config):
    assert_one_line(run("train", config, "--set", "batch.rows=127"), "batch.rows", "127")


def test_a_missing_data_set_gives_the_command_that_converts_it(run, config, tmp_path):
    result = run("train", config, "--set", "data.dataset=cifar100", "--data", tmp_path / "data")
    assert_one_line(result, f"mixmo-fast convert cifar100 --data {tmp_path / 'data'}")


def test_a_converted_file_with_other_bytes_of_the_same_number_is_named(run, config, tmp_path):
    data = tmp_path / "data"
    assert run("convert", "digits", "--data", data)[0] == 0
    labels = data / "digits" / "train_labels.npy"
    content = bytearray(labels.read_bytes())
    content[-8] ^= 1
    labels.write_bytes(content)
    assert_one_line(run("train", config, "--data", data), str(labels), "sha256", "--force")


def test_the_embedded_digits_have_no_source(run, tmp_path):
    assert_one_line(run("convert", "digits", "--source", tmp_path, "--data", tmp_path), "--source")


def test_paths_are_printed_as_they_are(run, config, digits, tmp_path):
    """Brackets are markup to the library that prints."""
    runs = tmp_path / "y[/b]"
    code, out, _ = run("train", config, "--data", digits, "--runs", runs)
    assert code == 0
    assert str(runs) in out
    code, out, _ = run("evaluate", config, "--data", digits, "--runs", runs)
    assert code == 0
    assert "y[/b]" in out


def test_an_unknown_data_set_lists_the_known_ones(run, config):
    assert_one_line(run("convert", "cifar1000"), "cifar1000", "cifar100", "digits")
    assert_one_line(run("train", config, "--set", "data.dataset=minst"), "minst", "digits")


def test_a_corrupt_converted_file_is_named_with_the_command_that_mends_it(run, config, tmp_path):
    data = tmp_path / "data"
    assert run("convert", "digits", "--data", data)[0] == 0
    images = data / "digits" / "train_images.npy"
    images.write_bytes(images.read_bytes()[:1000])
    assert_one_line(run("train", config, "--data", data), str(images), "--force")
    assert_one_line(run("convert", "digits", "--data", data), str(images), "--force")
    assert run("convert", "digits", "--data", data, "--force")[0] == 0


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (("--device", "tpu"), ("'tpu'", "auto, cuda and cpu")),
        (("--pipeline", "dali2"), ("'dali2'", "resident")),
        (("--set", "step.precision=fp16", "--device", "cpu"), ("fp16", "fp32")),
        (("--set", "batch.rows=1000000", "--set", "batch.repetitions=1"), ("batch.rows", "1438 training images")),
        (("--set", "optimizer.lr"), ("optimizer.lr", "key=value")),
        (("--seed", "-1"), ("seed", "-1")),
    ],
)
def test_options_that_cannot_be_are_one_line(run, config, digits, arguments, parts):
    assert_one_line(run("train", config, "--data", digits, *arguments), *parts)


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_cuda_without_a_gpu_is_one_line(run, config, digits):
    assert_one_line(run("train", config, "--data", digits, "--device", "cuda"), "--device cpu")


def test_evaluating_what_was_never_trained_is_one_line(run, config, digits, tmp_path):
    assert_one_line(run("evaluate", config, "--data", digits, "--runs", tmp_path), "best.pt", "no such checkpoint")
    assert_one_line(run("evaluate", tmp_path, "--data", digits), "not a run folder")
    assert_one_line(run("evaluate", tmp_path / "none.yaml", "--data", digits), "none.yaml")


def test_a_runs_folder_that_cannot_be_written_is_one_line(run, config, digits, tmp_path):
    (tmp_path / "file").write_text("")
    result = run("train", config, "--data", digits, "--runs", tmp_path / "file")
    assert_one_line(result, str(tmp_path / "file"))


def test_debug_shows_the_traceback(monkeypatch, config):
    monkeypatch.setattr(sys, "argv", ["mixmo-fast", "train", str(config), "--device", "tpu", "--debug"])
    with pytest.raises(cli.MixmoError):
        cli.main()


def test_help_answers_in_under_a_second():
    times = []
    for _ in range(3):
        started = time.perf_counter()
        found = subprocess.run([sys.executable, "-m", "mixmo_fast", "--help"], cwd=ROOT, capture_output=True, text=True)
        times.append(time.perf_counter() - started)
        assert "convert" in found.stdout
    assert min(times) < 1
