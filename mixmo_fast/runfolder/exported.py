"""What an exported network says of itself: all that someone needs to use it without this program."""

import json
from typing import Literal

from mixmo_fast.runfolder.record import Record

PIXELS = "images: float32 (N, 3, height, width), RGB, pixels scaled to 0..1; normalisation is inside"
NORMALISED = "images: float32 (N, 3, height, width), RGB, (pixels scaled to 0..1 - mean) / std"
LOGITS = "logits: float32 (N, members, classes), every member's"
PROBABILITIES = (
    "probabilities: float32 (N, classes), the softmax of the mean of the members' logits (ensemble: logits), or the "
    "mean of their probabilities (ensemble: probabilities), after temperature scaling"
)


class ExportedNetwork(Record):
    """Beside the weights in every format; `config.json` of a safetensors folder.

    Attributes:
        model_type: Whose it is.
        version: Of the program that wrote it.
        checkpoint: The file it was made of.
        epoch: Of that.
        configuration: Of the run, the YAML of its `config.yaml`.
        dataset: What it was trained on.
        members: M.
        classes: K.
        class_names: K names in label order, or empty.
        height: H, pixels.
        width: W, pixels.
        mean: Of each channel, of pixels scaled to 0..1.
        std: Of each channel, likewise.
        fit: How an image of another shape got this one: `crop`, `pad` or `stretch`.
        zoom: Each pixel of an original became a block of so many rows and columns.
        margin: Rows and columns of black that were then put on each side.
        ensemble: What of the members is averaged.
        temperature: Divides the ensemble's logits; 1 where none was fitted.
        folded: Whether the encoders are one convolution and the heads one matrix.
        input: What it takes.
        outputs: What it gives.
    """

    model_type: Literal["mixmo"]
    version: str
    checkpoint: str
    epoch: int
    configuration: str
    dataset: str
    members: int
    classes: int
    class_names: tuple[str, ...]
    height: int
    width: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    fit: str
    zoom: int
    margin: int
    ensemble: str
    temperature: float
    folded: bool
    input: str
    outputs: tuple[str, ...]

    def as_words(self) -> dict[str, str]:
        """For formats whose metadata are words: lists, numbers and truth values as JSON."""
        return {name: value if isinstance(value, str) else json.dumps(value) for name, value in self.as_dict().items()}
