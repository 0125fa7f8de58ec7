"""What a run's saved evaluation says of a later answer: its temperature, and when to abstain.

It is of certain weights and counts for those alone, whatever checkpoints hold them.
"""

import shlex
from dataclasses import dataclass, field
from typing import cast

from mixmo_fast.errors import DataError
from mixmo_fast.evaluation.metrics import Ensemble
from mixmo_fast.run.trained import Weights
from mixmo_fast.runfolder.evaluated import Abstention
from mixmo_fast.runfolder.kept import is_of, read_evaluations


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
    which = weights.checkpoint.stem if weights.checkpoint.stem in ("best", "last") else weights.epoch
    evaluate = f"run `mixmo-fast evaluate {shlex.quote(str(weights.run))} --checkpoint {which}`"
    kept = read_evaluations(weights.run)
    if not kept:
        return Calibration(missing=f"{weights.run} has no evaluation: {neither}; {evaluate}")
    nearest = next((one for one in kept if one.checkpoint == weights.checkpoint.stem), kept[0])
    said = f"{nearest.file} is of epoch {nearest.record.epoch}"
    if weights.within:
        where = f"the checkpoint of within epoch {weights.epoch + 1}"
        return Calibration(missing=f"{said}, {where}: {neither} before that epoch has ended")
    ours = next((one for one in (nearest, *kept) if is_of(one.record, weights.epoch, weights.sha256)), None)
    if ours is None:
        other = "" if nearest.record.epoch != weights.epoch else " with other weights"
        return Calibration(missing=f"{said}, the checkpoint of {weights.epoch}{other}: {neither}; {evaluate}")
    path, saved = ours.file, ours.record
    ensemble = saved.ensemble or "logits"
    if ensemble not in ("logits", "probabilities"):
        raise DataError(f"{path}: ensemble: found {ensemble!r}, allowed: logits, probabilities")
    temperature = saved.temperature_scaling.temperature if saved.temperature_scaling else None
    missing = None
    if saved.abstention is None:
        missing = f"{path} is of an older version, without what abstaining takes: no answer abstains; {evaluate}"
    return Calibration(cast(Ensemble, ensemble), temperature, saved.abstention, missing)
