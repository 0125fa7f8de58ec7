"""`mixmo-fast inspect`: how the members of a trained network share it, the analysis of the paper.

Shapes: M members, F filters of an encoder, T thresholds.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from mixmo_fast.evaluation.members import top1_by_members
from mixmo_fast.networks.anatomy import DEFINITION, THRESHOLDS, LayerActivity, active_filters, encoder_l1, mean_share
from mixmo_fast.run.trained import Trained, open_trained
from mixmo_fast.runfolder import evaluated
from mixmo_fast.runfolder.evaluated import FilterActivity, MembersUsed, SavedInspection
from mixmo_fast.runfolder.history import read_history, tested
from mixmo_fast.runfolder.records import Epoch

_OF_AN_EPOCH = {"epoch", "top1", "member_top1", "diversity", "disagreement"}


@dataclass(frozen=True)
class Inspection:
    """What `inspect_run` found.

    Attributes:
        trained: The network and where it comes from.
        encoder_l1: The L1 norm of each filter of each encoder, M x F.
        layers: The convolutions of the trunk, with their active filters at `THRESHOLDS`; a transformer's has none.
        used: Accuracy on the test split by the number of members used.
        epochs: The evaluated epochs of the run, oldest first; empty outside of a run folder.
    """

    trained: Trained
    encoder_l1: tuple[tuple[float, ...], ...]
    layers: tuple[LayerActivity, ...]
    used: tuple[MembersUsed, ...]
    epochs: tuple[Epoch, ...]

    def record(self) -> SavedInspection:
        """What a file keeps of it."""
        return SavedInspection(
            checkpoint=str(self.trained.checkpoint),
            epoch=self.trained.epoch,
            weights_sha256=self.trained.weights_sha256,
            encoder_l1=self.encoder_l1,
            active_filters=self._filters(),
            top1_by_members=self.used,
            epochs=tuple(Epoch(**epoch.model_dump(include=_OF_AN_EPOCH)) for epoch in self.epochs),
        )

    def _filters(self) -> FilterActivity | None:
        """None for a trunk without convolutions."""
        if not self.layers:
            return None
        return FilterActivity(
            definition=DEFINITION,
            thresholds=THRESHOLDS,
            share=mean_share(self.layers),
            layers=tuple(evaluated.LayerActivity(**asdict(layer)) for layer in self.layers),
        )


def inspect_run(
    target: Path, which: str, data: Path, runs: Path, device_name: str, notify: Callable[[str], None]
) -> Inspection:
    """Inspects a checkpoint; arguments and errors are those of `mixmo_fast.run.trained.open_trained`."""
    trained = open_trained(target, which, data, runs, device_name, notify)
    network = trained.network
    logits, labels = trained.predict(trained.test_batches())
    history = read_history(trained.run) if trained.run else ()
    return Inspection(
        trained,
        tuple(map(tuple, encoder_l1(network).tolist())),
        active_filters(network),
        top1_by_members(logits, labels),
        tested(history),
    )
