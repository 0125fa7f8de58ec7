"""What `mixmo-fast predict --json` writes: typed answers, an entry for each picture in the order given."""

from typing import Literal

from mixmo_fast.runfolder.record import Record

DEFINITIONS = {
    "confidence": "the ensemble's probability of its first class, after temperature scaling where `temperature` is one",
    "abstain": "confidence < threshold; null where that is unknown",
    "threshold": "the least confidence among that share (`coverage`) of the test images that are most confident",
    "members": "each member's first class and its own probability, without temperature",
}


class Guess(Record):
    """A class and its probability."""

    label: int
    name: str
    probability: float


class PredictedImage(Record):
    """A picture's answer, or the problem that it had."""

    image: str
    status: Literal["predicted", "abstains", "unread"]
    problem: str | None = None
    top: tuple[Guess, ...] = ()
    confidence: float | None = None
    abstain: bool | None = None
    members: tuple[Guess, ...] = ()


class SavedPredictions(Record):
    """All pictures of a call, and what they were shown to."""

    dataset: str
    checkpoint: str
    epoch: int
    ensemble: str
    temperature: float | None
    coverage: float
    threshold: float | None
    missing: str | None
    images: tuple[PredictedImage, ...]
    definitions: dict[str, str] = DEFINITIONS
