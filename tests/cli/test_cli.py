"""The command line as a user meets it, above all when something is wrong: one line on stderr, exit code 2."""

import json
import shutil
import sys
from pathlib import Path

import pytest
import torch
from authors_form import authors_file
from places import REPOSITORY, TESTS
from programs import run_timed

from mixmo_fast.cli import app as cli
from mixmo_fast.config.load import load_config
from mixmo_fast.config.paper import paper_config
from mixmo_fast.errors import DivergedError, MixmoError

ROOT = REPOSITORY
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
    assert_one_line(
        run("train", config, "--data", digits, "--device", "cuda"), "--device cpu", "sees no CUDA device here ("
    )


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (
            torch.OutOfMemoryError(
                "CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has 79 GiB of which 3 MiB free"
            ),
            ("CUDA out of memory. Tried to allocate 20.00 MiB: lower batch.rows", "--set batch.rows=32"),
        ),
        (
            RuntimeError("CUDA error: CUDA-capable device(s) is/are busy or unavailable\nCompile with ..."),
            ("busy or unavailable: nvidia-smi shows who", "exclusive mode"),
        ),
        (RuntimeError("CUDA error: out of memory\nCompile with ..."), ("CUDA error: out of memory: lower batch.rows",)),
    ],
)
def test_a_gpu_that_is_full_or_taken_is_one_line(run, config, digits, monkeypatch, error, words):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr("mixmo_fast.run.build.make_network", fail)
    assert_one_line(run("train", config, "--data", digits, "--device", "cpu"), *words)


def test_a_defect_on_a_gpu_keeps_its_traceback(run, config, digits, monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr("mixmo_fast.run.build.make_network", fail)
    with pytest.raises(RuntimeError, match="illegal memory access"):
        run("train", config, "--data", digits, "--device", "cpu")


def test_evaluating_what_was_never_trained_is_one_line(run, config, digits, tmp_path):
    assert_one_line(run("evaluate", config, "--data", digits, "--runs", tmp_path), "last.pt", "no such checkpoint")
    assert_one_line(run("evaluate", tmp_path, "--data", digits), "not a run folder")
    for words in (("evaluate",), ("inspect",), ("export", "--format", "onnx")):
        assert_one_line(
            run(*words, tmp_path / "none"), f"{tmp_path / 'none'}: not there; allowed: a run folder, a checkpoint"
        )


def test_divergence_has_an_exit_code_of_its_own(run, config, digits, monkeypatch):
    def diverge(*_, **__):
        raise DivergedError("in epoch 2 the loss is not finite")

    monkeypatch.setattr("mixmo_fast.run.train.train_run", diverge)
    code, _, err = run("train", config, "--data", digits)
    assert (code, err) == (3, "mixmo-fast: in epoch 2 the loss is not finite\n")


def test_a_runs_folder_that_cannot_be_written_is_one_line(run, config, digits, tmp_path):
    (tmp_path / "file").write_text("")
    result = run("train", config, "--data", digits, "--runs", tmp_path / "file")
    assert_one_line(result, str(tmp_path / "file"))


def test_debug_shows_the_traceback(monkeypatch, config):
    monkeypatch.setattr(sys, "argv", ["mixmo-fast", "train", str(config), "--device", "tpu", "--debug"])
    with pytest.raises(MixmoError):
        cli.main()


def test_help_answers_in_under_a_second():
    found, seconds = run_timed([sys.executable, "-m", "mixmo_fast", "--help"], cwd=ROOT)
    assert "convert" in found.stdout
    assert seconds < 1


def test_one_command_from_a_reference_file_to_an_evaluation(run, tmp_path, digits):
    """The authors' form is trained on directly; --set speaks this program's form."""
    old = TESTS / "golden" / "reference_wrn10-1_cutmixmo.yaml"
    new = tmp_path / "new.yaml"
    code, out, _ = run("config", "import", old, "-o", new)
    assert code == 0
    assert f"wrote {new}" in out
    assert_one_line(run("config", "import", old, "-o", new), str(new), "--force")
    small = ("--set", "data.dataset=digits", "--set", "schedule.epochs=1", "--no-report")
    for config in (old, new):
        code, out, _ = run("train", config, "--data", digits, "--runs", tmp_path / "runs", *small)
        assert code == 0
        assert ("mixmo-pytorch" in out) == (config is old)
    first, second = (tmp_path / "runs" / config.stem / "metrics.csv" for config in (old, new))
    loss = [path.read_text().splitlines()[1].split(",")[2] for path in (first, second)]
    assert loss[0] == loss[1]


def test_a_single_network_in_the_authors_form_is_trained_and_evaluated(run, tmp_path, digits):
    """Its section for several members is there, with a method of null, and ignored."""
    old = tmp_path / "exp_cifar10_wrn2810_1net_msdacutmix_bar1.yaml"
    old.write_text(authors_file(old.stem))
    place = ("--data", digits, "--runs", tmp_path / "runs")
    overrides = ("data.dataset=digits", "network.depth=10", "network.width=1", "schedule.epochs=1")
    small = [word for override in overrides for word in ("--set", override)]
    code, out, _ = run("train", old, *place, *small, "--no-report")
    assert (code, "mixmo-pytorch" in out) == (0, True)
    code, out, _ = run("evaluate", old, *place, "--device", "cpu")
    assert (code, "top-1" in out) == (0, True)


def test_a_reference_file_with_an_unknown_field_is_one_line(run, tmp_path):
    text = (TESTS / "golden" / "reference_wrn10-1_cutmixmo.yaml").read_text()
    bad = tmp_path / "bad.yaml"
    bad.write_text(text.replace("  warmup_period: 3128", "  warmup_periods: 3128"))
    for command in (("train", bad), ("evaluate", bad), ("config", "explain", bad)):
        assert_one_line(run(*command), str(bad), "model_wrapper.warmup_periods", "warmup_period")


def test_explaining_tells_the_steps_of_an_epoch(run, config):
    code, out, _ = run("config", "explain", config, "--set", "batch.rows=100")
    assert code == 0
    assert f"{1438 * 2 // 100} steps" in out


@pytest.fixture(scope="module")
def place(trained, tmp_path_factory):
    """A copy of a finished run that has no page yet."""
    folder = tmp_path_factory.mktemp("copy") / "tiny"
    shutil.copytree(trained.run, folder)
    return folder


def test_evaluating_leaves_numbers_pictures_and_page_in_the_run_folder(run, place, digits, tmp_path):
    scores = tmp_path / "scores.json"
    options = ("--tempscal", "--corruptions", "synthetic", "--ensemble", "probabilities", "--json", scores)
    code, out, err = run("evaluate", place, "--data", digits, "--device", "cpu", *options)
    assert (code, err) == (0, "")
    for words in ("mean of probabilities", "temperature", "scaled", "AURC", "jpeg", f"pictures are in {place}"):
        assert words in out
    of_last = place / "evaluations" / "last"
    found = json.loads((of_last / "evaluation.json").read_text())
    assert found == json.loads(scores.read_text())
    assert found["checkpoint"].endswith("last.pt")
    for picture in (
        *(of_last / f"{name}.png" for name in ("reliability", "confusion", "selective", "robustness")),
        *(place / f"{name}.png" for name in ("members", "learning_curves")),
    ):
        assert picture.read_bytes().startswith(b"\x89PNG")
    page = (place / "report.html").read_text()
    assert "The recipe in plain words" in page
    assert "Robustness" in page


@pytest.mark.parametrize("flag", ["--temperature-scaling", "--tempscale", "--tempscal"])
def test_temperature_scaling_goes_by_all_its_names(run, trained, digits, tmp_path, flag):
    options = ("--data", digits, "--device", "cpu", "--out", tmp_path)
    code, out, err = run("evaluate", trained.run, *options, flag)
    assert (code, err) == (0, "")
    assert "scaled" in out


def test_inspecting_leaves_its_pictures_beside_them(run, place, digits):
    code, out, err = run("inspect", place, "--data", digits, "--device", "cpu")
    assert (code, err) == (0, "")
    for words in ("Encoders", "Active filters", "Members used at inference", "worst subset"):
        assert words in out
    for name in ("encoders", "active_filters", "members_at_inference"):
        assert (place / "evaluations" / "last" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    assert "Inside the network" in (place / "report.html").read_text()


def test_a_checkpoint_outside_of_a_run_leaves_nothing_unless_told_where(run, trained, digits, tmp_path):
    alone = tmp_path / "alone.pt"
    shutil.copy(trained.path(), alone)
    code, out, _ = run("evaluate", trained.config, "--checkpoint", alone, "--data", digits)
    assert code == 0
    assert "--out FOLDER" in out
    code, out, _ = run("evaluate", trained.config, "--checkpoint", alone, "--data", digits, "--out", tmp_path / "out")
    assert code == 0
    assert (tmp_path / "out" / "evaluation.json").is_file()
    assert (tmp_path / "out" / "confusion.png").is_file()


def test_robustness_may_stand_alone(run, place, digits, tmp_path):
    """As in the authors' command line: the folder is then looked for in --data."""
    for words in (("--robustness",), ("--robustness", "--device", "cpu"), ("--corruptions", "--device", "cpu")):
        result = run("evaluate", place, "--data", digits, *words)
        assert_one_line(result, "digits: CIFAR-C is published for cifar10 and cifar100")
    assert_one_line(run("evaluate", place, "--data", digits, "--ood", "digits"), "--ood: digits")


def test_a_name_becomes_a_configuration_and_nothing_else_is_touched(run, tmp_path):
    (tmp_path / "kept.txt").write_text("mine")
    name = "exp_cifar100_wrn2810-3_cutmixmo-p2_daaugmix_bar2"
    code, out, _ = run("config", "new", name, "-o", tmp_path)
    assert (code, out.strip()) == (0, f"wrote {tmp_path / name}.yaml")
    assert load_config(tmp_path / f"{name}.yaml") == paper_config(name)
    assert_one_line(run("config", "new", name, "-o", tmp_path), f"{name}.yaml", "--force")
    assert run("config", "new", name, "-o", tmp_path, "--force")[0] == 0
    assert_one_line(run("config", "new", "exp_cifar100_wrn2810_mimo_standard_bar4", "-o", tmp_path), "1 members")
    assert_one_line(run("config", "new", "resnet50", "-o", tmp_path), "'resnet50'", "exp_{cifar10|")
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"{name}.yaml", "kept.txt"]
