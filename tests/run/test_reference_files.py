"""Files of the authors' implementation, as they are: a configuration and a checkpoint that it wrote, what it scored.

Their network was trained on Fashion-MNIST images put into CIFAR-10's format. The first 64 test images lie beside the
tests; the scores of all 5,000 need Fashion-MNIST's own files.
"""

import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from fashion import needs_fashion_mnist
from places import TESTS

from benchmarks.parity import make_data, write_cifar10
from mixmo_fast.errors import CheckpointError
from mixmo_fast.run.evaluate import evaluate_run
from mixmo_fast.training.reference_checkpoint import load_reference_checkpoint
from pipelines.datasets.convert import convert

GOLDEN = TESTS / "golden"
CHECKPOINT = GOLDEN / "reference_wrn10-1_cutmixmo.ckpt"
CONFIG = GOLDEN / "reference_wrn10-1_cutmixmo.yaml"
PRINTED = json.loads((GOLDEN / "reference_wrn10-1_cutmixmo.json").read_text())


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """A converted `cifar10` whose test images are the first 64 of Fashion-MNIST."""
    folder = tmp_path_factory.mktemp("reference")
    kept = np.load(GOLDEN / "fashion_mnist_first_64.npz")
    images = np.repeat(np.pad(kept["images"], ((0, 0), (2, 2), (2, 2)))[..., None], 3, axis=3)
    originals = folder / "cifar-10-batches-py"
    write_cifar10(originals, images, kept["labels"], [f"data_batch_{part}" for part in range(1, 6)])
    write_cifar10(originals, images, kept["labels"], ["test_batch"])
    convert("cifar10", folder, source=originals, verify=False, notify=lambda _: None)
    return folder


def evaluate(data: Path, checkpoint: Path = CHECKPOINT, config: Path = CONFIG, notes: list[str] | None = None):
    said = [] if notes is None else notes
    return evaluate_run(config, said.append, checkpoint=str(checkpoint), data=data, runs=data / "runs", device="cpu")


def test_logits_are_the_authors(data):
    notes = []
    found = evaluate(data, notes=notes)
    assert any("mixmo-pytorch" in note for note in notes)
    assert found.trained.precision.name == "fp32"
    assert found.trained.epoch == 8
    expected = torch.tensor(PRINTED["first_64_logits_member0_member1_ensemble"])
    ours = torch.cat([found.logits, found.logits.mean(dim=1, keepdim=True)], dim=1)
    assert torch.allclose(ours, expected, rtol=0, atol=1e-4)


@needs_fashion_mnist
def test_scores_are_the_authors(fashion_mnist, tmp_path):
    make_data(fashion_mnist, tmp_path)
    scores = evaluate(tmp_path).scores
    printed = PRINTED["scores"]
    assert scores.top1 == printed["accuracy"]
    assert scores.member_top1 == (printed["accuracy_0"], printed["accuracy_1"])
    assert scores.member_top1_mean == printed["accuracy_mean"]
    for ours, theirs in (
        (scores.nll, "nll"),
        (scores.ece, "ece"),
        (scores.tace, "tace"),
        (scores.auc, "auc"),
        (scores.brier_per_class, "brier"),
        (scores.top5, "accuracytop5"),
        (scores.diversity, "diversity_ratioerrors"),
    ):
        # Their float32 forward pass rounds differently from ours, so their probabilities are not quite these.
        assert ours == pytest.approx(printed[theirs], rel=2e-5), theirs


def test_names_of_a_parallel_wrapper_are_tolerated(data, tmp_path):
    content = torch.load(CHECKPOINT, weights_only=True)
    state = content["classifier_state_dict"]
    content["classifier_state_dict"] = {f"module.{name}": tensor for name, tensor in state.items()}
    torch.save(content, tmp_path / "parallel.ckpt")
    assert torch.equal(evaluate(data, tmp_path / "parallel.ckpt").logits, evaluate(data).logits)


def test_the_old_format_of_torch_is_read_too(data, tmp_path):
    content = torch.load(CHECKPOINT, weights_only=True)
    torch.save(content, tmp_path / "old.ckpt", _use_new_zipfile_serialization=False)
    assert torch.equal(evaluate(data, tmp_path / "old.ckpt").logits, evaluate(data).logits)


class _Evil:
    def __init__(self, mark: Path):
        self.mark = mark

    def __reduce__(self):
        return (Path.touch, (self.mark,))


@pytest.mark.parametrize("form", ["zip", "old", "pickle"])
def test_code_in_a_checkpoint_is_refused_and_never_run(data, tmp_path, form):
    mark, path = tmp_path / "ran", tmp_path / "evil.ckpt"
    content = torch.load(CHECKPOINT, weights_only=True) | {"classifier_optimizer_state_dict": _Evil(mark)}
    if form == "pickle":
        path.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=form == "zip")
    with pytest.raises(
        CheckpointError, match=r"evil.ckpt: (holds more than tensors .* nothing of it was run|not a read)"
    ):
        evaluate(data, path)
    assert not mark.exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.pop("classifier_state_dict"), r"not a checkpoint of this program"),
        (lambda c: c.update(epoch="8"), r"epoch: found '8', allowed: a whole number"),
        (
            lambda c: c["classifier_state_dict"].update(extra=torch.zeros(1)),
            r"another network: 'extra' is not an entry",
        ),
        (lambda c: c["classifier_state_dict"].update({"list_fc.0.bias": "text"}), r"'list_fc.0.bias' is no tensor"),
        (
            lambda c: [c["classifier_state_dict"].pop(f"list_{name}") for name in ("conv1.1.weight",)],
            r"encoders.1.weight is missing. The file has 1 members instead of 2",
        ),
        (
            lambda c: c["classifier_state_dict"].update(
                {f"list_fc.{m}.{part}": torch.zeros(100, *shape) for m in (0, 1) for part, shape in PARTS}
            ),
            r"heads.0.weight is \(100, 64\), expected \(10, 64\).*100 classes instead of 10 \(another data set\)",
        ),
    ],
    ids=["no weights", "epoch", "unknown name", "no tensor", "one encoder", "100 classes"],
)
def test_a_checkpoint_that_does_not_fit_says_where_and_why(data, tmp_path, change, message):
    content = torch.load(CHECKPOINT, weights_only=True)
    content["classifier_state_dict"] = dict(content["classifier_state_dict"])
    change(content)
    torch.save(content, tmp_path / "other.ckpt")
    with pytest.raises(CheckpointError, match=message):
        evaluate(data, tmp_path / "other.ckpt")


PARTS = (("weight", (64,)), ("bias", ()))


def test_a_configuration_of_another_network_is_told_from_the_checkpoint(data, tmp_path):
    other = tmp_path / "other.yaml"
    other.write_text(CONFIG.read_text().replace("widen_factor: 1", "widen_factor: 2"))
    with pytest.raises(CheckpointError, match=r"64 features before the heads instead of 128 \(network.width\)"):
        evaluate(data, config=other)
    other.write_text(CONFIG.read_text().replace("depth: 10", "depth: 16"))
    with pytest.raises(CheckpointError, match=r"1 blocks a group instead of 2 \(network.depth\)"):
        evaluate(data, config=other)


def test_a_text_file_is_no_checkpoint_and_weights_get_our_names(tmp_path):
    kept = load_reference_checkpoint(CHECKPOINT)
    assert kept.epoch == 8
    assert next(iter(kept.network)) == "encoders.0.weight"
    shutil.copy(CONFIG, tmp_path / "text.ckpt")
    with pytest.raises(CheckpointError, match=r"text.ckpt: not a readable checkpoint"):
        load_reference_checkpoint(tmp_path / "text.ckpt")
