"""`summary.json`: what a run reached and how fast, in one small file for people and for tables."""

import statistics
from collections.abc import Sequence
from typing import Any

from mixmo_fast.config.schema import Config
from mixmo_fast.runfolder.history import best_epoch
from mixmo_fast.runfolder.records import BestScores, Epoch, RunSummary
from mixmo_fast.runfolder.scores import SCORES, Scores
from mixmo_fast.runfolder.trained_on import TrainedOn
from mixmo_fast.training.memory import highest
from mixmo_fast.training.runlog import versions

_DEFINITIONS = {
    "rows_per_second": "network input rows per second of training, evaluation excluded; median over the epochs",
    "images_per_second": "images read and augmented per second: rows_per_second x members x (1 + msda.prob)",
    "last": "test scores after the last epoch",
    "peak_memory": "the most at a time, of rank 0; on a GPU in tensors (gpu_peak_allocated_bytes), and what torch took "
    "for them; on a CPU all that the process held, data set included",
    "best_on_test": "test scores of the epoch with the best test top-1, which is how the paper counts",
}


def summarise(
    name: str,
    config: Config,
    history: Sequence[Epoch],
    device: str,
    pipeline: str,
    precision: str,
    data: TrainedOn | None = None,
) -> RunSummary:
    """The summary of a run whose `history` has at least one evaluated epoch.

    Args:
        name: The configuration's name.
        config: The resolved configuration.
        history: Its epochs.
        device: Its name.
        pipeline: How pixels got there.
        precision: `fp32`, `bf16` or `fp16`.
        data: What it was trained on.
    """
    # The median, because a first epoch also loads libraries from disk and may compile.
    rows_per_second = statistics.median(epoch.rows_per_second for epoch in history)
    partners = config.msda.prob if config.msda else 0.0
    last, best = history[-1], best_epoch(history)
    return RunSummary(
        dataset=config.data.dataset,
        data=data,
        config=name,
        seed=config.seed,
        epochs=last.epoch,
        device=device,
        pipeline=pipeline,
        precision=precision,
        last=Scores(**_scores(last)),
        best_on_test=BestScores(**_scores(best), epoch=best.epoch),
        rows_per_second=rows_per_second,
        images_per_second=rows_per_second * config.network.members * (1 + partners),
        train_seconds=sum(epoch.train_seconds for epoch in history),
        peak_memory=highest(history),
        definitions=_DEFINITIONS,
        versions=versions(),
    )


def final_metrics(summary: RunSummary) -> dict[str, float]:
    """The few numbers of a summary by which runs are compared."""
    last, best = summary.last, summary.best_on_test
    return {
        "final/top1_last": last.top1,
        "final/top1_best_on_test": best.top1,
        "final/nll_last": last.nll,
        "final/ece_last": last.ece,
        "final/rows_per_second": summary.rows_per_second,
    }


def _scores(epoch: Epoch) -> dict[str, Any]:
    """All of them: a run that began under an earlier version may lack a score in its first epochs."""
    return {name: getattr(epoch, name) for name in SCORES}
