"""Which classes a network takes for which, read off a confusion matrix.

Shapes: K classes; counts (K, K) have true labels as rows.
"""

from dataclasses import dataclass

import numpy as np

from mixmo_fast.report.words import UNKNOWN, class_name

_CONFUSIONS_SHOWN = 10


@dataclass(frozen=True)
class Confusion:
    """Images of a class that were taken for another.

    Attributes:
        true: Name of their class.
        taken_for: Name of the other.
        images: Their number.
        share: Of all images of their class.
    """

    true: str
    taken_for: str
    images: int
    share: float


@dataclass(frozen=True)
class ClassScores:
    """What became of a class.

    Attributes:
        name: Its name.
        images: Its images.
        recall: Share of them that are right; None where there are none.
        precision: Share of what was taken for it that is right; None where nothing was.
        taken_for: Name of the class that it was most often taken for; a dash where it never was.
    """

    name: str
    images: int
    recall: float | None
    precision: float | None
    taken_for: str


def frequent_confusions(confusion: tuple[tuple[int, ...], ...], classes: tuple[str, ...]) -> list[Confusion]:
    """The pairs of classes that are confused most, the most frequent first; nothing where there are no errors."""
    counts, errors = _counts_and_errors(confusion)
    order = np.argsort(-errors, axis=None, kind="stable")[:_CONFUSIONS_SHOWN]
    pairs = [divmod(int(place), len(counts)) for place in order if errors.flat[place]]
    return [
        Confusion(
            class_name(classes, true),
            class_name(classes, taken),
            int(errors[true, taken]),
            float(errors[true, taken] / counts[true].sum()),
        )
        for true, taken in pairs
    ]


def scores_of_classes(confusion: tuple[tuple[int, ...], ...], classes: tuple[str, ...]) -> list[ClassScores]:
    """Recall, precision and the most frequent error of each class."""
    counts, errors = _counts_and_errors(confusion)
    return [
        ClassScores(
            name=class_name(classes, label),
            images=int(counts[label].sum()),
            recall=_share(counts[label, label], counts[label].sum()),
            precision=_share(counts[label, label], counts[:, label].sum()),
            taken_for=class_name(classes, int(errors[label].argmax())) if errors[label].any() else UNKNOWN,
        )
        for label in range(len(counts))
    ]


def _counts_and_errors(confusion: tuple[tuple[int, ...], ...]) -> tuple[np.ndarray, np.ndarray]:
    """The matrix, and the same without its diagonal."""
    counts = np.array(confusion, dtype=np.int64).reshape(len(confusion), len(confusion))
    return counts, counts - np.diag(counts.diagonal())


def _share(part: int, total: int) -> float | None:
    return float(part / total) if total else None
