"""Whole runs: train one into its folder, open a folder and read it, evaluate what was trained."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from mixmo_fast.api.parts import load_config
from mixmo_fast.config.schema import Config
from mixmo_fast.errors import ConfigError
from mixmo_fast.evaluation.metrics import Ensemble
from mixmo_fast.networks.multi import MixMo
from mixmo_fast.run.deploy import Exported, export_network
from mixmo_fast.run.evaluate import Evaluation, evaluate_run
from mixmo_fast.run.pictures import Pictures
from mixmo_fast.run.predict import Predictions, Predictor, open_predictor
from mixmo_fast.run.train import train_run
from mixmo_fast.run.trained import read_weights
from mixmo_fast.runfolder.evaluated import SavedEvaluation
from mixmo_fast.runfolder.history import read_history
from mixmo_fast.runfolder.kept import read_evaluations
from mixmo_fast.runfolder.names import CONFIG, SUMMARY, run_meant
from mixmo_fast.runfolder.record import read_record
from mixmo_fast.runfolder.records import Epoch, RunSummary


@dataclass(frozen=True)
class Run:
    """A run folder, as it was when it was opened.

    Attributes:
        folder: Where it is.
        config: The resolved configuration.
        history: An entry for each epoch, oldest first; its scores are None where it was not evaluated.
        summary: What the run reached, and how fast; None until it has ended.
        evaluations: The saved evaluations by checkpoint, `last` first, then `best`, then `epoch_0030` and so on.
    """

    folder: Path
    config: Config
    history: tuple[Epoch, ...]
    summary: RunSummary | None
    evaluations: Mapping[str, SavedEvaluation]

    @property
    def evaluation(self) -> SavedEvaluation | None:
        """The saved evaluation of `last`; where that was not evaluated the first of the others, or None."""
        return next(iter(self.evaluations.values()), None)

    def network(self, checkpoint: str | int = "last") -> MixMo:
        """The trained network in float32 on the CPU, in evaluation mode; the data set is not needed.

        Args:
            checkpoint: `last`, `best`, or the number of an epoch that was kept.

        Raises:
            CheckpointError: No such checkpoint (the line names those there are), or an unreadable one.
        """
        return read_weights(self.folder, str(checkpoint), self.folder, lambda _: None).network()

    def predictor(
        self, checkpoint: str | int = "last", *, data: str | Path = "data", device: str = "auto"
    ) -> Predictor:
        """The trained network, ready to be shown pictures again and again; the data set is not needed.

        Args:
            checkpoint: `last`, `best`, or the number of an epoch that was kept.
            data: The folder of data sets, whose manifest says how images look where the checkpoint does not.
            device: `auto`, `cuda` or `cpu`.

        Raises:
            MixmoError: No such checkpoint, or an unreadable one, or a data set that nothing is known of.
        """
        return open_predictor(self.folder, str(checkpoint), data=Path(data), device=device)

    def predict(
        self,
        images: Pictures,
        checkpoint: str | int = "last",
        *,
        coverage: float = 0.9,
        top: int = 5,
        data: str | Path = "data",
        device: str = "auto",
    ) -> Predictions:
        """What pictures show; a `predictor` is faster for many calls.

        ```python
        answers = run.predict("photo.jpg")
        print(answers.top_names[0], answers.confidence[0], answers.abstain)
        ```

        Args:
            images: As for `Predictor.predict`: files, folders, Pillow images, uint8 arrays or tensors.
            checkpoint: As for `predictor`.
            coverage: The share of such images as the test split's that shall be answered.
            top: How many classes to name.
            data: As for `predictor`.
            device: As for `predictor`.

        Raises:
            MixmoError: As `predictor`, or for arrays of other types and shapes. A file that cannot be read is no error:
                see `Predictions.unread`.
        """
        return self.predictor(checkpoint, data=data, device=device).predict(images, coverage, top)

    def export(
        self,
        format: str,
        out: str | Path | None = None,
        checkpoint: str | int = "last",
        *,
        data: str | Path = "data",
        force: bool = False,
    ) -> Exported:
        """Writes the trained network in a form that other programs take, checked against torch, whole or not at all.

        ```python
        print(run.export("onnx").path)
        ```

        Args:
            format: `onnx`, `torch-export`, both folded and with their normalisation; `safetensors` as it was trained.
            out: The file, or for safetensors the folder; None: the run's name with the format's suffix, here.
            checkpoint: As for `predictor`.
            data: As for `predictor`.
            force: Whether an earlier export may be replaced.

        Raises:
            MixmoError: An unknown format, a missing package, no such checkpoint, or `out` is there.
        """
        target = None if out is None else Path(out)
        return export_network(self.folder, format, target, str(checkpoint), data=Path(data), force=force)


def open_run(folder: str | Path) -> Run:
    """Opens a run folder; every file is checked, every number typed.

    ```python
    run = mf.open_run("runs/quickstart")
    print(run.config.network.members, run.summary.last.top1, [epoch.train_loss for epoch in run.history])
    network = run.network("best")
    ```

    Raises:
        ConfigError: Not a run folder.
        DataError: A file in it is damaged or of another version.
    """
    folder = Path(folder)
    if not (folder / CONFIG).is_file():
        raise ConfigError(f"{folder}: not a run folder (it has no {CONFIG})")
    return Run(
        folder=folder,
        config=load_config(folder / CONFIG),
        history=read_history(folder),
        summary=read_record(folder / SUMMARY, RunSummary),
        evaluations={one.checkpoint: one.record for one in read_evaluations(folder)},
    )


def train(
    config: str | Path | Mapping[str, object] | Config,
    name: str | None = None,
    *,
    data: str | Path = "data",
    runs: str | Path = "runs",
    pipeline: str = "resident",
    workers: int | None = None,
    cache: str = "os",
    device: str = "auto",
    from_scratch: bool = False,
    init: str | Path | None = None,
    init_optimizer: bool = False,
    extend: bool = False,
    report: bool = True,
    quiet: bool = False,
) -> Run:
    """Trains a configuration into the folder `runs/name`, or continues it where it stopped, as the command does.

    ```python
    run = mf.train(mf.load_config("configs/quickstart.yaml", "schedule.epochs=5"), "short")
    ```

    Args:
        config: As for `load_config`; without a name, a run folder or the `config.yaml` in one is that run.
        name: Of the run; None: that of the file, or of the published run.
        data: The folder of data sets.
        runs: The folder of run folders.
        pipeline: As for `training_batches`.
        workers: As for `training_batches`.
        cache: As for `training_batches`.
        device: `auto`, `cuda` or `cpu`.
        from_scratch: Whether to forget an earlier run of that name.
        init: A checkpoint whose weights a new run begins with.
        init_optimizer: Whether it begins with that file's momentum, too.
        extend: Whether a run of fewer epochs may go on, if the longer one would have begun alike.
        report: Whether to evaluate the last epoch at the end, and draw the run's page.
        quiet: Whether to print nothing.

    Raises:
        MixmoError: On anything you can mend; what the folder held before is then untouched.
    """
    if name is None and isinstance(config, str | Path):
        run = run_meant(Path(config))
        name, runs, config = (run.name, run.parent, run / CONFIG) if run else (Path(config).stem, runs, config)
    if name is None:
        raise ConfigError("name: found None, allowed: one beside a configuration's values")
    folder = train_run(
        load_config(config),
        Console(quiet=quiet),
        name=name,
        data=Path(data),
        runs=Path(runs),
        pipeline=pipeline,
        workers=workers,
        cache=cache,
        device=device,
        from_scratch=from_scratch,
        report=report,
        init=None if init is None else Path(init),
        init_optimizer=init_optimizer,
        extend=extend,
    )
    return open_run(folder)


def evaluate(
    run: Run | str | Path,
    checkpoint: str | int = "last",
    *,
    data: str | Path = "data",
    device: str = "auto",
    precision: str | None = None,
    ensemble: Ensemble = "logits",
    calibrate_on: str = "test-halves",
    robustness: str | None = None,
    mce_against: str | Path | None = None,
    ood: Sequence[str] = (),
    on: str | None = None,
    notify: Callable[[str], None] = print,
) -> Evaluation:
    """Evaluates a run's checkpoint on its test split: scores, calibration, the members' logits; writes nothing.

    ```python
    evaluation = mf.evaluate("runs/quickstart")
    print(evaluation.scores.top1, evaluation.scores.member_top1, evaluation.logits.shape)  # N x M x K
    ```

    Args:
        run: An opened run, or its folder.
        checkpoint: `last`, `best`, the number of an epoch that was kept, or a file.
        data: The folder of data sets.
        device: `auto`, `cuda` or `cpu`.
        precision: As `step.precision`; None: as the network was trained.
        ensemble: What of the members is averaged: `logits` or `probabilities`.
        calibrate_on: What a temperature is fitted on: `test-halves`, each for the other, or `train-holdout`.
        robustness: Also under corruptions: a folder of CIFAR-C's files, `synthetic` for ones computed here, or `auto`.
        mce_against: The run, or an `evaluation.json`, that the mean corruption error is relative to.
        ood: Data sets to tell from the network's own.
        on: Another data set of the same classes, whose test split is taken in the place of the network's own.
        notify: Takes one-line messages.

    Raises:
        MixmoError: When checkpoint or data are missing or do not fit together.
    """
    return evaluate_run(
        run.folder if isinstance(run, Run) else Path(run),
        notify,
        checkpoint=str(checkpoint),
        data=Path(data),
        device=device,
        precision=precision,
        ensemble=ensemble,
        calibrate_on=calibrate_on,
        robustness=robustness,
        mce_against=None if mce_against is None else Path(mce_against),
        ood=ood,
        on=on,
    )
