"""`mixmo-fast predict`: a trained network's answers for pictures that are in no data set.

A picture is made as the network's data set would have it (`mixmo_fast.run.appearance`) and takes one pass through the
folded network. What the run's saved evaluation found belongs to the answer: the temperature that fits confidence to
accuracy, and the confidence below which to abstain.

Shapes: N images, M members, K classes, T top classes, H W pixels.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mixmo_fast.cores import available_cores
from mixmo_fast.errors import ConfigError, DataError
from mixmo_fast.evaluation.evaluate import predict as predict_batches
from mixmo_fast.evaluation.metrics import ensemble_logits
from mixmo_fast.networks.fold import FoldedMixMo, folded
from mixmo_fast.run import build
from mixmo_fast.run.appearance import Appearance, appearance_of
from mixmo_fast.run.calibration import Calibration, calibration_of
from mixmo_fast.run.pictures import Picture, Pictures, pictures_of
from mixmo_fast.run.trained import Weights, read_weights
from mixmo_fast.training.precision import Precision
from pipelines.assembly.assemble import normalisation_table
from pipelines.resident import ResidentEvaluation

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Unread:
    """A picture that there is no answer for.

    Attributes:
        place: Its number among all that were given, from 0.
        name: Its file.
        problem: Why not, in one line.
    """

    place: int
    name: str
    problem: str


@dataclass(frozen=True, eq=False)
class Predictions:
    """Answers for N images, tensors on the CPU.

    Attributes:
        places: N numbers of the images among all that were given, from 0, ascending.
        names: Their N files, or `image 0` and so on.
        logits: float32 (N, M, K): every member's.
        probabilities: float64 (N, K): the ensemble's, after temperature scaling where there is a temperature.
        member_probabilities: float64 (N, M, K): every member's own opinion, without temperature: that belongs to the
            ensemble.
        top: int64 (N, T): the most probable classes, the first one first.
        confidence: float64 (N,): probability of the first one.
        abstain: bool (N,): whether the confidence is below `calibration.threshold(coverage)`; None where that is
            unknown.
        coverage: The share of such images as the test split's that shall be answered.
        class_names: K names in label order, or empty.
        calibration: What the run's saved evaluation says.
        unread: Those without an answer.
    """

    places: tuple[int, ...]
    names: tuple[str, ...]
    logits: Tensor = field(repr=False)
    probabilities: Tensor = field(repr=False)
    member_probabilities: Tensor = field(repr=False)
    top: Tensor
    confidence: Tensor
    abstain: Tensor | None
    coverage: float
    class_names: tuple[str, ...] = field(repr=False)
    calibration: Calibration
    unread: tuple[Unread, ...] = ()

    def __len__(self) -> int:
        return len(self.names)

    @property
    def top_names(self) -> tuple[tuple[str, ...], ...]:
        """N x T: what the most probable classes are called."""
        return tuple(tuple(map(self.name_of, row)) for row in self.top.tolist())

    def name_of(self, label: int) -> str:
        """Of a class: its name, or its number where the data set has no names."""
        return self.class_names[label] if self.class_names else str(label)


@dataclass(frozen=True, eq=False)
class Predictor:
    """A trained network that takes pictures, ready on its device.

    Attributes:
        network: Folded, in evaluation mode.
        appearance: What it was trained to see.
        calibration: What its saved evaluation says.
        checkpoint: Its file.
        epoch: Of that.
        device: Where it computes.
        precision: What it computes in.
        rows: Images in a batch.
    """

    network: FoldedMixMo = field(repr=False)
    appearance: Appearance
    calibration: Calibration
    checkpoint: Path
    epoch: int
    device: torch.device
    precision: Precision
    rows: int

    def predict(
        self, images: Pictures, coverage: float = 0.9, top: int = 5, progress: Progress = lambda *_: None
    ) -> Predictions:
        """Answers for some images.

        Args:
            images: A file, a folder, a Pillow image, or several of these; a uint8 array (H, W, 3), (H, W), (N, H, W, 3)
                or (N, H, W), or a tensor (C, H, W) or (N, C, H, W).
            coverage: The share of such images as the test split's that shall be answered.
            top: T, at least 1; no more than K are named.
            progress: Told (work, done, total).

        Raises:
            ConfigError: For numbers outside their range.
            DataError: For arrays of other types or shapes, or nothing at all. A file that cannot be read is no
                error: see `Predictions.unread`.
        """
        if not 0 < coverage <= 1:
            raise ConfigError(f"coverage: found {coverage:g}, allowed: a number above 0, at most 1")
        if top < 1:
            raise ConfigError(f"top: found {top}, allowed: a whole number at least 1")
        pictures = pictures_of(images)
        places, logits, unread = [], [], []
        for chunk in self._ready(pictures):
            read = [(place, pixels) for place, pixels in chunk if not isinstance(pixels, DataError)]
            unread += [
                Unread(place, pictures[place].name, _problem(pixels, pictures[place].name))
                for place, pixels in chunk
                if isinstance(pixels, DataError)
            ]
            if read:
                logits.append(self.logits(np.stack([pixels for _, pixels in read])).cpu())
                places += [place for place, _ in read]
            progress("pictures", chunk[-1][0] + 1, len(pictures))
        names = [pictures[place].name for place in places]
        none = torch.empty(0, self.network.members, self.network.classes)
        return self._answers(torch.cat([none, *logits]), places, names, unread, coverage, top)

    def logits(self, images: np.ndarray) -> Tensor:
        """Every member's logits, float32 (N, M, K) on the device, of images uint8 (N, H, W, 3) of the network's size.

        Raises:
            DivergedError: When one is not finite.
        """
        table = normalisation_table(self.appearance.mean, self.appearance.std)
        labels = np.zeros(len(images), dtype=np.int64)
        batches = ResidentEvaluation(images, labels, table, self.rows, self.device, self.precision.image_dtype)
        return predict_batches(self.network, batches, self.precision.autocast)[0]

    def _ready(self, pictures: Sequence[Picture]) -> Iterator[list[tuple[int, "np.ndarray | DataError"]]]:
        """Pictures in batches, decoded by threads while the network sees those before them."""

        def make(place: int) -> tuple[int, np.ndarray | DataError]:
            picture = pictures[place]
            try:
                return place, self.appearance.ready(picture.read())
            except DataError as error:
                return place, error
            except Exception as error:  # Pillow's plugins raise whatever comes
                reason = " ".join(str(error).split())[:150] or type(error).__name__
                return place, DataError(f"{picture.name}: {reason}")

        if len(pictures) == 1:  # threads take longer to start than a picture to decode
            yield [make(0)]
            return
        with ThreadPoolExecutor(available_cores()) as pool:
            ahead: list[list[Future]] = []
            for first in range(0, len(pictures), self.rows):
                ahead.append([pool.submit(make, n) for n in range(first, min(first + self.rows, len(pictures)))])
                if len(ahead) > 1:
                    yield [one.result() for one in ahead.pop(0)]
            for last in ahead:
                yield [one.result() for one in last]

    def _answers(
        self,
        logits: Tensor,
        places: Sequence[int],
        names: Sequence[str],
        unread: Sequence[Unread],
        coverage: float,
        top: int,
    ) -> Predictions:
        scaled = ensemble_logits(logits, self.calibration.ensemble) / (self.calibration.temperature or 1.0)
        probabilities = scaled.softmax(dim=1)
        confidence = probabilities.amax(dim=1)
        threshold = self.calibration.threshold(coverage)
        return Predictions(
            places=tuple(places),
            names=tuple(names),
            logits=logits,
            probabilities=probabilities,
            member_probabilities=logits.double().softmax(dim=2),
            top=scaled.sort(dim=1, descending=True, stable=True).indices[:, :top],  # of equal ones the first, as argmax
            confidence=confidence,
            abstain=None if threshold is None else confidence < threshold,
            coverage=coverage,
            class_names=self.appearance.class_names,
            calibration=self.calibration,
            unread=tuple(unread),
        )


def open_predictor(
    target: Path,
    checkpoint: str = "last",
    *,
    data: Path = Path("data"),
    runs: Path = Path("runs"),
    device: str = "auto",
    notify: Callable[[str], None] = lambda _: None,
) -> Predictor:
    """A run's network, ready to be shown pictures; the data set itself is not needed.

    Args:
        target: A configuration file, a run folder, or a checkpoint.
        checkpoint: `last`, `best`, an epoch, or a checkpoint's path.
        data: The data folder, whose manifest says how images look where the checkpoint does not.
        runs: Where the run folder of a configuration file is.
        device: `auto`, `cuda` or `cpu`.
        notify: Takes one-line messages.

    Raises:
        MixmoError: When configuration or checkpoint are missing or do not fit together, or the data set is unknown.
    """
    place = build.choose_device(device)
    weights = read_weights(target, checkpoint, runs, notify)
    precision = weights.precision_on(place)
    precision.switch_tf32()
    layout = torch.channels_last if weights.config.step.channels_last else torch.contiguous_format
    return Predictor(
        network=folded(weights.network()).to(place).to(memory_format=layout),
        appearance=_checked(appearance_of(weights.config.data.dataset, data, weights.data, notify), weights),
        calibration=calibration_of(weights),
        checkpoint=weights.checkpoint,
        epoch=weights.epoch,
        device=place,
        precision=precision,
        rows=weights.config.evaluation.rows,
    )


def _checked(appearance: Appearance, weights: Weights) -> Appearance:
    if len(appearance.class_names) not in (0, weights.classes):
        raise DataError(
            f"{appearance.dataset}: found {len(appearance.class_names)} class names, allowed: {weights.classes}: so "
            f"many {weights.checkpoint} tells apart; --data names the folder of the data set that it was trained on"
        )
    return appearance


def _problem(error: DataError, name: str) -> str:
    """What an error says besides the file that it begins with."""
    return str(error).removeprefix(f"{name}: ")
