"""Answers for pictures as a table for the terminal, as CSV, and as a typed record."""

import csv
import io
import os
from collections.abc import Sequence

from mixmo_fast.run.predict import Predictions, Predictor
from mixmo_fast.runfolder.predicted import DEFINITIONS, Guess, PredictedImage, SavedPredictions
from mixmo_fast.tables import Cell, Column, Sheet

ROWS_SHOWN = 40
_WITH_ALL_CLASSES = 8  # pictures; of more, a row each


def predictions_record(found: Predictions, predictor: Predictor) -> SavedPredictions:
    """Every picture in the order given, and what they were shown to."""
    answers = {place: _answer(found, row) for row, place in enumerate(found.places)}
    for one in found.unread:
        answers[one.place] = PredictedImage(image=printable(one.name), status="unread", problem=printable(one.problem))
    return SavedPredictions(
        dataset=predictor.appearance.dataset,
        checkpoint=printable(str(predictor.checkpoint)),
        epoch=predictor.epoch,
        ensemble=found.calibration.ensemble,
        temperature=found.calibration.temperature,
        coverage=found.coverage,
        threshold=found.calibration.threshold(found.coverage),
        missing=found.calibration.missing,
        images=tuple(answers[place] for place in sorted(answers)),
        definitions=DEFINITIONS,
    )


def predictions_csv(images: Sequence[PredictedImage], members: bool) -> str:
    """A header and a line for each picture; `members` adds each member's first class."""
    top, count = (max((len(guesses) for guesses in column), default=0) for column in _guesses(images))
    header = ["image", "status", "problem", "label", "name", "confidence"]
    for rank in range(2, top + 1):
        header += [f"label_{rank}", f"name_{rank}", f"probability_{rank}"]
    for member in range(count if members else 0):
        header += [f"member_{member}_label", f"member_{member}_name", f"member_{member}_probability"]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    for one in images:
        row: list[object] = [one.image, one.status, one.problem or ""]
        for guess in (*one.top, *(one.members if members else ())):
            row += [guess.label, guess.name, f"{guess.probability:.6f}"]
        writer.writerow(row + [""] * (len(header) - len(row)))
    return text.getvalue()


def predictions_table(saved: SavedPredictions, members: bool) -> Sheet:
    """The first pictures with their most probable classes; of many, a row each with the first class alone."""
    count = max((len(one.members) for one in saved.images), default=0) if members else 0
    opinions = [Column(f"member {member}", "prose", rank=1) for member in range(count)]
    said = (Column("image", "prose"), Column("class", "prose"), Column("prob."))
    whole = len(saved.images) <= _WITH_ALL_CLASSES
    rows: list[tuple[Cell, ...]] = []
    rules = set()
    for one in saved.images[:ROWS_SHOWN]:
        if not one.top:
            rows.append((one.image, "", "", *[""] * count, one.problem or ""))
        for rank, guess in enumerate(one.top if whole else one.top[:1]):
            first = rank == 0
            answer = ("abstains" if one.abstain else "answers" if one.abstain is False else "") if first else ""
            others = [_opinion(member) if first else "" for member in one.members[:count]]
            rows.append((one.image if first else "", guess.name, _percent(guess), *others, answer))
        if whole:
            rules.add(len(rows) - 1)
    return Sheet(
        (*said, *opinions, Column("answer", "prose")),
        tuple(rows),
        f"{saved.dataset}, epoch {saved.epoch} ({saved.checkpoint})",
        rules=frozenset(rules),
    )


def closing_lines(saved: SavedPredictions) -> list[str]:
    """What the table cannot say: how many there are, what abstains, what is unknown."""
    statuses = [one.status for one in saved.images]
    predicted = len(statuses) - statuses.count("unread")
    lines = []
    if len(statuses) > ROWS_SHOWN:
        lines.append(f"{len(statuses) - ROWS_SHOWN:,} more pictures: --csv FILE or --json FILE writes all of them")
    counted = f"{predicted:,} of {len(statuses):,} pictures predicted"
    if saved.threshold is not None:
        abstaining = statuses.count("abstains")
        which = f"{abstaining:,} abstain, less sure than" if abstaining else "none abstains: all are as sure as"
        counted += f"; {which} the surest {100 * saved.coverage:g} % of the test images ({100 * saved.threshold:.1f} %)"
    lines.append(counted)
    return [*lines, f"note: {saved.missing}"] if saved.missing else lines


def printable(text: str) -> str:
    """A file's name as it can be shown and written: what is no character of UTF-8 or no visible one is replaced."""
    readable = os.fsencode(text).decode(errors="replace")
    return "".join(letter if letter.isprintable() else "\ufffd" for letter in readable)


def _answer(found: Predictions, row: int) -> PredictedImage:
    abstains = None if found.abstain is None else bool(found.abstain[row])
    opinions = zip(*found.member_probabilities[row].max(dim=1), strict=True)
    return PredictedImage(
        image=printable(found.names[row]),
        status="abstains" if abstains else "predicted",
        top=tuple(_guess(found, label, found.probabilities[row, label].item()) for label in found.top[row].tolist()),
        confidence=found.confidence[row].item(),
        abstain=abstains,
        members=tuple(_guess(found, int(label), probability.item()) for probability, label in opinions),
    )


def _guess(found: Predictions, label: int, probability: float) -> Guess:
    return Guess(label=label, name=found.name_of(label), probability=probability)


def _guesses(images: Sequence[PredictedImage]) -> tuple[list, list]:
    return [one.top for one in images], [one.members for one in images]


def _percent(guess: Guess) -> str:
    return f"{100 * guess.probability:.1f} %"


def _opinion(guess: Guess) -> str:
    return f"{guess.name} {100 * guess.probability:.0f} %"
