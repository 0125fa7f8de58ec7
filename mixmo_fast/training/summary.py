"""`summary.json`: what a run reached and how fast, in one small file for people and for tables."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

from mixmo_fast.config.schema import Config
from mixmo_fast.evaluation.metrics import Scores
from mixmo_fast.training.runlog import Row, best_row, versions

_SPEED = {
    "rows_per_second": "network input rows per second of training, evaluation excluded; median over the epochs",
    "images_per_second": "images read and augmented per second: rows_per_second x members x (1 + msda.prob)",
}
_SCORES = tuple(field.name for field in fields(Scores))


def summarise(
    name: str, config: Config, history: Sequence[Mapping[str, Any]], device: str, pipeline: str, precision: str
) -> Row:
    """The summary of a run whose `history` has at least one evaluated epoch.

    Args:
        name: The configuration's name.
        config: The resolved configuration.
        history: `metrics.jsonl`.
        device: Its name.
        pipeline: How pixels got there.
        precision: `fp32`, `bf16` or `fp16`.
    """
    # The median, because a first epoch also loads libraries from disk and may compile.
    rows_per_second = statistics.median(row["rows_per_second"] for row in history)
    partners = config.msda.prob if config.msda else 0.0
    best = best_row(history)
    assert best is not None
    return {
        "dataset": config.data.dataset,
        "config": name,
        "seed": config.seed,
        "epochs": history[-1]["epoch"],
        "device": device,
        "pipeline": pipeline,
        "precision": precision,
        "last": _scores(history[-1]),
        "best_on_test": _scores(best) | {"epoch": best["epoch"]},
        "rows_per_second": rows_per_second,
        "images_per_second": rows_per_second * config.network.members * (1 + partners),
        "train_seconds": sum(row["train_seconds"] for row in history),
        "definitions": _SPEED
        | {
            "last": "test scores after the last epoch",
            "best_on_test": "test scores of the epoch with the best test top-1, which is how the paper counts",
        },
        "versions": versions(),
    }


def final_metrics(summary: Mapping[str, Any]) -> dict[str, float]:
    """The few numbers of a summary by which runs are compared."""
    last, best = summary["last"], summary["best_on_test"]
    return {
        "final/top1_last": last["top1"],
        "final/top1_best_on_test": best["top1"],
        "final/nll_last": last["nll"],
        "final/ece_last": last["ece"],
        "final/rows_per_second": summary["rows_per_second"],
    }


def _scores(row: Mapping[str, Any]) -> Row:
    # A run that began under an earlier version may lack a score in its first epochs.
    return {name: row.get(name) for name in _SCORES}
