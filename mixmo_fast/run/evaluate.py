"""`mixmo-fast evaluate`: everything that can be said of a checkpoint's predictions on the test split.

Shapes: S test images, M members, K classes.
"""

import io
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path

import numpy as np
from torch import Tensor

from mixmo_fast.errors import ConfigError
from mixmo_fast.evaluation.diagnostics import confusion, reliability
from mixmo_fast.evaluation.metrics import Ensemble, Scores, ensemble_logits, evaluate_logits
from mixmo_fast.evaluation.ood import detect
from mixmo_fast.evaluation.robustness import Robustness, evaluate_robustness, mean_corruption_error, read_robustness
from mixmo_fast.evaluation.selective import abstention, select
from mixmo_fast.evaluation.temperature import TemperatureScaling, fit_temperature, scale_two_fold, scale_with
from mixmo_fast.files import write_bytes
from mixmo_fast.run.shifted import Corrupted, corrupted_images, other_images
from mixmo_fast.run.trained import Trained, open_trained
from mixmo_fast.runfolder.evaluated import Abstention, Bin, ForeignSet, Reliability, SavedEvaluation, Selective

ENSEMBLES = ("logits", "probabilities")
CALIBRATE_ON = ("test-halves", "train-holdout")


@dataclass(frozen=True)
class Evaluation:
    """What `evaluate_run` found.

    Attributes:
        trained: The network and where it comes from.
        ensemble: What of the members was averaged.
        logits: float32 (S, M, K).
        labels: int64 (S,).
        scores: Of the test split.
        scaling: The same after temperature scaling.
        before: The reliability diagram's bins.
        after: The same after temperature scaling.
        confusion: int64 (K, K), rows are true classes, columns predicted ones.
        selective: What abstaining would bring.
        abstention: When a later prediction should abstain.
        robustness: Under corruptions, if asked for.
        ood: Telling other data sets apart, one entry for each that was asked for.
    """

    trained: Trained
    ensemble: Ensemble
    logits: Tensor
    labels: Tensor
    scores: Scores
    scaling: TemperatureScaling
    before: tuple[Bin, ...]
    after: tuple[Bin, ...]
    confusion: Tensor
    selective: Selective
    abstention: Abstention
    robustness: Robustness | None = None
    ood: tuple[ForeignSet, ...] = ()

    def record(self) -> SavedEvaluation:
        """What a file keeps of it."""
        return SavedEvaluation(
            dataset=self.trained.dataset.name,
            split="test",
            images=len(self.labels),
            checkpoint=str(self.trained.checkpoint),
            epoch=self.trained.epoch,
            weights_sha256=self.trained.weights_sha256,
            precision=self.trained.precision.name,
            ensemble=self.ensemble,
            **dict(self.scores),
            temperature_scaling=self.scaling.record(),
            classes=self.trained.dataset.class_names,
            reliability=Reliability(before=self.before, after=self.after),
            confusion=tuple(tuple(row) for row in self.confusion.tolist()),
            selective=self.selective,
            abstention=self.abstention,
            robustness=self.robustness,
            ood=self.ood,
        )


def evaluate_run(
    target: Path,
    notify: Callable[[str], None],
    progress: Callable[[str, int, int], None] = lambda *_: None,
    *,
    checkpoint: str = "last",
    data: Path = Path("data"),
    runs: Path = Path("runs"),
    device: str = "auto",
    precision: str | None = None,
    ensemble: Ensemble = "logits",
    calibrate_on: str = "test-halves",
    robustness: str | None = None,
    mce_against: Path | None = None,
    ood: Iterable[str] = (),
    on: str | None = None,
) -> Evaluation:
    """Evaluates a checkpoint on the test split of the data set that it was trained on, and on what else is asked for.

    Args:
        target: A configuration file, a run folder, or a checkpoint.
        notify: Told of a conversion or translation on the way.
        progress: Told (work, done, total) where it takes long.
        checkpoint: `last`, `best`, an epoch, or a checkpoint's path.
        data: The data folder.
        runs: Where the run folder of a configuration file is.
        device: `auto`, `cuda` or `cpu`.
        precision: As `step.precision`; None: as the network was trained.
        ensemble: What of the members is averaged: `logits` or `probabilities`.
        calibrate_on: What a temperature is fitted on: `test-halves`, each for the other, or `train-holdout`.
        robustness: None for no such evaluation; else a source of `mixmo_fast.run.shifted.corrupted_images`.
        mce_against: The run, or an `evaluation.json`, that the mean corruption error is relative to; of a run its last
            epoch, or else the checkpoint that has been evaluated so.
        ood: Names of the data sets to tell from the network's own.
        on: Another data set of the same classes, whose test split is taken in the place of the network's own.

    Raises:
        ConfigError: For a word that is not allowed.
        MixmoError: When configuration, checkpoint or data are missing or do not fit together.
    """
    for option, found, allowed in (
        ("--ensemble", ensemble, ENSEMBLES),
        ("--calibrate-on", calibrate_on, CALIBRATE_ON),
        ("--precision", precision, (None, "auto", "fp32", "tf32", "bf16", "fp16")),
    ):
        if found not in allowed:
            words = ", ".join(word for word in allowed if word)
            raise ConfigError(f"{option}: found {found!r}, allowed are {words}")
    if on is not None and calibrate_on == "train-holdout":
        raise ConfigError("--calibrate-on: found train-holdout with --on, allowed: test-halves")
    if mce_against is not None and robustness is None:
        raise ConfigError("--mce-against: has no meaning without --robustness")
    trained = open_trained(target, checkpoint, data, runs, device, notify, precision, on)
    # Everything that may be missing is looked for before anything long is computed.
    against = read_robustness(mce_against, trained.dataset.name) if mce_against else None
    corrupted = corrupted_images(trained, robustness, data) if robustness else None
    others = {name: other_images(trained, name, data, notify) for name in ood}

    logits, labels = trained.predict(trained.test_batches())
    scaling = _scaling(trained, calibrate_on, ensemble, logits, labels)
    averaged = ensemble_logits(logits, ensemble)
    evaluation = Evaluation(
        trained=trained,
        ensemble=ensemble,
        logits=logits,
        labels=labels,
        scores=evaluate_logits(logits, labels, ensemble),
        scaling=scaling,
        before=reliability(averaged, labels),
        after=reliability(scaling.logits, labels),
        confusion=confusion(averaged, labels),
        selective=select(averaged, labels),
        abstention=abstention(averaged, scaling.record().temperature),
    )
    foreign = [detect(name, logits, trained.predict(batches)[0], ensemble) for name, batches in others.items()]
    evaluation = replace(evaluation, logits=logits.cpu(), labels=labels.cpu(), ood=tuple(foreign))
    if corrupted:
        measured = _robustness(trained, ensemble, corrupted, progress)
        if against:
            mce = mean_corruption_error(measured, against)
            measured = measured.model_copy(update={"mce": mce, "mce_against": str(mce_against)})
        evaluation = replace(evaluation, robustness=measured)
    return evaluation


def _scaling(
    trained: Trained, calibrate_on: str, ensemble: Ensemble, logits: Tensor, labels: Tensor
) -> TemperatureScaling:
    if calibrate_on == "test-halves":
        return scale_two_fold(logits, labels, ensemble)
    held_out, held_out_labels = trained.predict(trained.held_out_batches())
    temperature = fit_temperature(ensemble_logits(held_out, ensemble), held_out_labels)
    return scale_with(temperature, logits, labels, ensemble, "train-holdout")


def _robustness(
    trained: Trained, ensemble: Ensemble, corrupted: Corrupted, progress: Callable[[str, int, int], None]
) -> Robustness:
    done = count(1)
    work = f"test images under the corruptions of {corrupted.source}"
    return evaluate_robustness(
        trained.predict,
        corrupted.sets,
        corrupted.source,
        corrupted.benchmark,
        ensemble,
        lambda *_: progress(work, next(done), corrupted.count),
    )


def save_predictions(evaluation: Evaluation, path: Path) -> None:
    """Writes `logits` float32 (S, M, K) and `labels` int64 (S,) as a compressed npz, whole or not at all.

    Raises:
        MixmoError: When it cannot be written.
    """
    content = io.BytesIO()  # numpy before 2.2 leaves an archive that it cannot write open, whose end then complains
    np.savez_compressed(content, logits=evaluation.logits.numpy(), labels=evaluation.labels.numpy())
    write_bytes(path, content.getvalue())
