"""Where a training stands within an epoch: what a checkpoint holds besides weights and momentum, to go on bit for bit.

Plans are keyed by epoch and step, so a step's number is all that the pipelines need.
"""

from dataclasses import asdict, dataclass
from typing import Any

from mixmo_fast.errors import CheckpointError
from mixmo_fast.training.step import EpochSoFar


@dataclass(frozen=True)
class Within:
    """A place within an epoch.

    Attributes:
        seconds: Of training in this epoch so far.
        ranks: What each of the processes that train together has added up, by rank.
    """

    seconds: float
    ranks: tuple[EpochSoFar, ...]

    @property
    def steps(self) -> int:
        """Steps taken, which is the number of the next one."""
        return self.ranks[0].steps

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for a checkpoint."""
        return asdict(self)


def parse_within(content: dict[str, Any], ranks: int, where: str) -> Within | None:
    """`Within.as_dict`, read back; None for an empty one, which is the end of an epoch.

    Args:
        content: From a checkpoint.
        ranks: How many processes train now.
        where: The run folder, for messages.

    Raises:
        CheckpointError: Another number of processes had begun the epoch, or it is damaged.
    """
    if not content:
        return None
    try:
        within = Within(float(content["seconds"]), tuple(EpochSoFar(**one) for one in content["ranks"]))
        counts = [value for one in within.ranks for value in (one.steps, one.rows, one.hits)]
        if not counts or any(type(value) is not int or value < 0 for value in counts):
            raise ValueError(counts)
        losses = [loss for one in within.ranks for loss in (one.loss, *(loss for _, loss in one.marks))]
        if any(type(loss) is not float for loss in losses):
            raise ValueError(losses)
        (ends,) = {tuple(end for end, _ in one.marks) for one in within.ranks}  # the same of all ranks
        if any(type(end) is not int or not 0 < end <= within.steps for end in ends) or [*ends] != sorted({*ends}):
            raise ValueError(ends)
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{where}: damaged checkpoint: within: not a place in an epoch") from error
    if len(within.ranks) != ranks:
        raise CheckpointError(
            f"{where}: stopped within an epoch that {len(within.ranks)} processes had begun, found {ranks}, allowed: "
            "as many until its end"
        )
    return within
