"""`mixmo-fast evaluate`: what training measured, with the settings that were trained; and all its options."""

import json

import numpy as np
import pytest
import torch
from fashion import needs_fashion_mnist
from lab import CONFIG, Lab, read_history
from originals import IDX_NAMES, idx_bytes

from benchmarks.parity import write_cifar10
from mixmo_fast.errors import ConfigError, DataError, MixmoError
from mixmo_fast.evaluation.metrics import evaluate_logits
from mixmo_fast.evaluation.temperature import fit_temperature
from mixmo_fast.run.evaluate import evaluate_run, save_predictions
from mixmo_fast.run.page import record_evaluation
from mixmo_fast.run.shifted import resize
from mixmo_fast.training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from pipelines.datasets.catalog import dataset_info
from pipelines.datasets.cifar_c import CORRUPTIONS
from pipelines.datasets.convert import convert
from pipelines.datasets.sources_idx import read_idx


def test_evaluate_repeats_what_training_measured(trained, tmp_path):
    history = read_history(trained.run)
    for which, epoch in (("last", 4), ("2", 2), ("4", 4), (str(trained.path("epoch_0002")), 2)):
        found = trained.evaluate(which)
        assert found.trained.epoch == epoch
        for name, value in found.scores.as_dict().items():
            assert value == history[epoch - 1][name], name
    by_folder = trained.evaluate("last", trained.run)
    assert by_folder.scores == trained.evaluate("last").scores
    save_predictions(by_folder, tmp_path / "predictions.npz")
    kept = np.load(tmp_path / "predictions.npz")
    assert kept["logits"].shape == (359, 2, 10)
    right = kept["logits"].mean(axis=1).argmax(axis=1) == kept["labels"]
    assert right.mean() == pytest.approx(by_folder.scores.top1)


def test_evaluate_uses_the_configuration_that_was_trained(lab):
    """Overrides on the command line are in the checkpoint, not in the file."""
    lab.train("schedule.epochs=1", "network.width=2")
    assert lab.evaluate().scores.top1 == read_history(lab.run)[0]["top1"]


def test_a_network_trained_in_fp16_is_evaluated_on_a_cpu_in_fp32(lab):
    lab.train("schedule.epochs=1")
    content = vars(load_checkpoint(lab.path()))
    content["config"] = content["config"].replace("precision: fp32", "precision: fp16")
    save_checkpoint(Checkpoint(**content), lab.path())
    assert "fp16" in content["config"]
    assert lab.evaluate().scores.top1 == read_history(lab.run)[0]["top1"]


def test_members_can_be_averaged_by_probability(trained):
    by_logits, by_probability = trained.evaluate(), trained.evaluate(ensemble="probabilities")
    assert by_probability.scores == evaluate_logits(by_logits.logits, by_logits.labels, "probabilities")
    mean = by_logits.logits.double().softmax(dim=2).mean(dim=1)
    nll = -mean.gather(1, by_logits.labels[:, None]).log().mean().item()
    assert by_probability.scores.nll == pytest.approx(nll, rel=1e-9)
    assert by_probability.scores.nll != by_logits.scores.nll


def test_temperature_scaling_is_part_of_every_evaluation(trained):
    found = trained.evaluate()
    assert found.scaling.calibrated_on == "test-halves"
    assert len(found.scaling.temperatures) == 2
    assert found.scaling.scores.nll < found.scores.nll
    assert found.scaling.scores.top1 == found.scores.top1
    before, after = found.record().as_dict()["reliability"].values()
    assert sum(one["count"] for one in before) == sum(one["count"] for one in after) == 359
    assert np.trace(found.record().confusion) == round(359 * found.scores.top1)


def test_a_temperature_from_held_out_training_images_needs_a_run_that_held_some_out(trained, lab):
    lab.train("data.holdout=0", "schedule.epochs=1", "schedule.milestones={}")
    with pytest.raises(ConfigError, match=r"no training image was held out .* --set data.holdout=0.1"):
        lab.evaluate(calibrate_on="train-holdout")
    found = trained.evaluate(calibrate_on="train-holdout")
    (temperature,) = found.scaling.temperatures
    logits, labels = found.trained.predict(found.trained.held_out_batches())
    assert len(labels) == 719
    assert temperature == fit_temperature(logits.double().mean(dim=1), labels)
    mean = found.logits.double().mean(dim=1) / temperature
    nll = -mean.log_softmax(dim=1).gather(1, found.labels[:, None]).mean().item()
    assert found.scaling.scores.nll == pytest.approx(nll, rel=1e-9)


@pytest.fixture(scope="module")
def learned(tmp_path_factory, digits) -> Lab:
    """A run that is well above chance, as `trained` is not with every version of torch."""
    place = Lab(tmp_path_factory.mktemp("learned"), digits)
    place.train("schedule.epochs=12", "schedule.milestones={}")
    return place


@pytest.fixture(scope="module")
def corrupted(learned):
    """An evaluation under synthetic corruptions, which takes seconds."""
    return learned.evaluate(robustness="synthetic")


def test_synthetic_corruptions_of_the_digits(corrupted):
    found = corrupted.robustness
    assert found.source == "synthetic"
    assert len(found.top1) == len(found.corruptions) == 8
    assert found.pooled.top1 == pytest.approx(np.mean(found.top1), rel=1e-9)  # sets of one size
    assert found.pooled.top1 < corrupted.scores.top1 and found.pooled.nll > corrupted.scores.nll
    by_severity = np.array(found.top1).mean(axis=0)
    assert by_severity[0] > by_severity[2] > by_severity[4]


def test_mean_corruption_error_against_a_run_is_one_for_itself(learned, corrupted, tmp_path):
    record = tmp_path / "other"
    record.mkdir()
    (record / "evaluation.json").write_text(json.dumps(corrupted.record().as_dict()))
    found = learned.evaluate(robustness="synthetic", mce_against=record)
    assert found.robustness.mce == pytest.approx(1)
    assert found.robustness.mce_against == str(record)
    assert found.robustness.pooled == corrupted.robustness.pooled  # the corruptions are the same each time
    with pytest.raises(MixmoError, match=r"evaluation\.json: cannot be read"):
        learned.evaluate(robustness="synthetic", mce_against=tmp_path)
    with pytest.raises(ConfigError, match="--mce-against: has no meaning without --robustness"):
        learned.evaluate(mce_against=record)


def test_cifar_c_is_for_cifar(trained):
    with pytest.raises(DataError, match="digits: CIFAR-C is published for"):
        trained.evaluate(robustness="auto")


def test_other_images_are_brought_to_the_networks_size():
    images = torch.arange(2 * 16 * 16 * 3, dtype=torch.int64).remainder(256).byte().view(2, 16, 16, 3)
    assert resize(images, 16, 16) is images
    flat = resize(torch.full((1, 16, 16, 3), 77, dtype=torch.uint8), 32, 24)
    assert flat.shape == (1, 32, 24, 3)
    assert (flat == 77).all()
    smaller = resize(images, 8, 8)
    assert smaller.double().mean().item() == pytest.approx(images.double().mean().item(), abs=1)


def test_a_data_set_is_not_out_of_its_own_distribution(trained):
    with pytest.raises(ConfigError, match="--ood: digits is what the network was trained on"):
        trained.evaluate(ood=("digits",))
    with pytest.raises(DataError, match="cifar10 is not in"):
        trained.evaluate(ood=("cifar10",))


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"ensemble": "votes"}, "--ensemble: found 'votes', allowed are logits, probabilities"),
        ({"calibrate_on": "test"}, "--calibrate-on: found 'test', allowed are test-halves, train-holdout"),
        ({"precision": "fp8"}, "--precision: found 'fp8', allowed are auto, fp32, tf32, bf16, fp16"),
    ],
)
def test_words_that_are_not_allowed_are_one_line(trained, option, message):
    with pytest.raises(ConfigError, match=message):
        trained.evaluate(**option)


def test_a_record_keeps_what_was_found_earlier_of_the_same_checkpoint(learned, corrupted, tmp_path):
    def record(found) -> dict:
        record_evaluation(found, tmp_path)
        return json.loads((tmp_path / "evaluation.json").read_text(), parse_constant=pytest.fail)  # no NaN

    first = record(corrupted)
    assert first["robustness"]["source"] == "synthetic"
    assert record(learned.evaluate())["robustness"] == first["robustness"]
    assert record(learned.evaluate(ensemble="probabilities"))["robustness"] is None
    assert (tmp_path / "reliability.png").stat().st_size > 1000
    assert not (tmp_path / "report.html").exists()  # which is of a run


@pytest.fixture(scope="module")
def on_fashion_mnist(tmp_path_factory, fashion_mnist, digits) -> Lab:
    """The smallest network, trained on the first images of Fashion-MNIST; the digits lie beside it."""
    folder = tmp_path_factory.mktemp("fashion")
    data = folder / "data"
    data.mkdir()
    (data / "digits").symlink_to(digits / "digits")
    train, train_labels, test, test_labels = read_idx(dataset_info("fashion_mnist"), fashion_mnist, True)
    arrays = train[:4500, 2:-2, 2:-2, 0], train_labels[:4500], test[:250, 2:-2, 2:-2, 0], test_labels[:250]
    for name, array in zip(IDX_NAMES, arrays, strict=True):
        (folder / name).write_bytes(idx_bytes(array.astype(np.uint8)))
    convert("fashion_mnist", data, source=folder, verify=False, notify=lambda _: None)
    place = Lab(folder, data, CONFIG.replace("dataset: digits, holdout: 0.5", "dataset: fashion_mnist, holdout: 0.1"))
    place.train("schedule.epochs=3", "schedule.milestones={}", "batch.rows=64")
    return place


@pytest.mark.campaign
@needs_fashion_mnist
def test_every_option_on_fashion_mnist(on_fashion_mnist):
    found = on_fashion_mnist.evaluate(
        robustness="synthetic", ood=("digits",), calibrate_on="train-holdout", ensemble="probabilities"
    )
    assert found.scores.top1 > 0.4  # of ten classes
    assert len(found.labels) == 250
    assert found.scaling.scores.nll <= found.scores.nll + 1e-3
    assert 0.2 < found.robustness.pooled.top1 < found.scores.top1
    (digits,) = found.ood
    assert (digits.dataset, digits.images) == ("digits", 359)
    assert [detector.name for detector in digits.detectors] == ["max_probability", "entropy", "energy", "disagreement"]
    assert max(detector.auroc for detector in digits.detectors) > 0.55
    selective = found.selective
    assert found.scores.top1 < selective.accuracy_at_95 < selective.accuracy_at_90 < selective.accuracy_at_80
    record_evaluation(found, on_fashion_mnist.run)
    saved = on_fashion_mnist.run / "evaluations" / "last" / "evaluation.json"
    assert json.loads(saved.read_text())["ood"][0]["dataset"] == "digits"


@pytest.mark.campaign
@needs_fashion_mnist
def test_the_digits_against_fashion_mnist(trained, on_fashion_mnist, tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    for name, place in (("digits", trained), ("fashion_mnist", on_fashion_mnist)):
        (data / name).symlink_to(place.data / name)
    found = evaluate_run(trained.run, print, checkpoint="last", data=data, ood=("fashion_mnist",), device="cpu")
    assert found.ood[0].images == 250


def test_cifar_c_from_folder_to_table(lab, tmp_path):
    """A network on images in CIFAR-10's format, and a folder in CIFAR-10-C's."""
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (50, 32, 32, 3), dtype=np.uint8), np.arange(50) % 10
    originals = tmp_path / "data" / "cifar-10-batches-py"
    write_cifar10(originals, images, labels, [f"data_batch_{part}" for part in range(1, 6)])
    write_cifar10(originals, images[:20], labels[:20], ["test_batch"])
    convert("cifar10", tmp_path / "data", source=originals, verify=False, notify=lambda _: None)
    text = CONFIG.replace("digits, holdout: 0.5", "cifar10").replace("rows: 64", "rows: 32")
    place = Lab(tmp_path, tmp_path / "data", text)
    place.train("schedule.epochs=1", "schedule.milestones={}")
    with pytest.raises(DataError, match="CIFAR-10-C: no such folder"):
        place.evaluate(robustness="auto")
    folder = tmp_path / "data" / "CIFAR-10-C"
    folder.mkdir()
    np.save(folder / "labels.npy", np.tile(labels[:20], 5))
    for corruption in CORRUPTIONS:
        np.save(folder / f"{corruption}.npy", np.tile(images[:20], (5, 1, 1, 1)))
    found = place.evaluate(robustness="auto").robustness
    assert found.source == "CIFAR-10-C"
    assert len(found.top1) == 19
    assert len(found.benchmark) == 15
    assert found.mean_top1 == pytest.approx(place.evaluate().scores.top1)  # nothing is corrupted here
    assert place.evaluate(robustness=str(folder)).robustness == found
