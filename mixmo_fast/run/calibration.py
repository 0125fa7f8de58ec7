"""What a run's saved evaluation says of a later answer: its temperature, and when to abstain.

It is of one epoch's weights, so it counts for those alone.
"""

import shlex
from dataclasses import dataclass, field
from typing import cast

from mixmo_fast.errors import DataError
from mixmo_fast.evaluation.metrics import Ensemble
from mixmo_fast.run.trained import Weights
from mixmo_fast.runfolder.evaluated import Abstention, SavedEvaluation
from mixmo_fast.runfolder.names import EVALUATION
from mixmo_fast.runfolder.record import read_record


@dataclass(frozen=True)
class Calibration:
    """How answers are made of logits.

    Attributes:
        ensemble: What of the members is averaged: as in the evaluation, or `logits`.
        temperature: Divides the ensemble's logits; None: unknown.
        abstention: Confidences by coverage; None: unknown.
        missing: In one line, what is unknown, why, and the command that finds it; None: nothing is.
    """

    ensemble: Ensemble = "logits"
    temperature: float | None = None
    abstention: Abstention | None = field(default=None, repr=False)
    missing: str | None = None

    def threshold(self, coverage: float) -> float | None:
        """The confidence below which to abstain; None where it is unknown."""
        return None if self.abstention is None else self.abstention.threshold(coverage)


def calibration_of(weights: Weights) -> Calibration:
    """What is saved beside a checkpoint.

    Raises:
        DataError: The saved evaluation is damaged.
    """
    neither = "confidence is not calibrated and no answer abstains"
    if weights.run is None:
        return Calibration(missing=f"{weights.checkpoint} lies in no run folder: {neither}")
    path = weights.run / EVALUATION
    which = weights.checkpoint.stem if weights.checkpoint.stem in ("best", "last") else weights.epoch
    evaluate = f"run `mixmo-fast evaluate {shlex.quote(str(weights.run))} --checkpoint {which}`"
    saved = read_record(path, SavedEvaluation)
    if saved is None:
        return Calibration(missing=f"{weights.run} has no evaluation: {neither}; {evaluate}")
    if weights.within:
        where = f"the checkpoint of within epoch {weights.epoch + 1}"
        return Calibration(missing=f"{path} is of epoch {saved.epoch}, {where}: {neither} before that epoch has ended")
    if saved.epoch != weights.epoch:
        return Calibration(
            missing=f"{path} is of epoch {saved.epoch}, the checkpoint of {weights.epoch}: {neither}; {evaluate}"
        )
    ensemble = saved.ensemble or "logits"
    if ensemble not in ("logits", "probabilities"):
        raise DataError(f"{path}: ensemble: found {ensemble!r}, allowed: logits, probabilities")
    temperature = saved.temperature_scaling.temperature if saved.temperature_scaling else None
    missing = None
    if saved.abstention is None:
        missing = f"{path} is of an older version, without what abstaining takes: no answer abstains; {evaluate}"
    return Calibration(cast(Ensemble, ensemble), temperature, saved.abstention, missing)
