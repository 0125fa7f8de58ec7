"""How a network's images look: what has to be known of its data set to show it a picture from elsewhere.

Shapes: N images, H W pixels, C channels, K classes.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from mixmo_fast.errors import DataError
from mixmo_fast.runfolder.trained_on import TrainedOn
from pipelines.datasets.catalog import DATASETS, DatasetInfo
from pipelines.datasets.decoding import FITS, Fit, declared_size, decode, plain, resize
from pipelines.datasets.store import MANIFEST, Dataset, read_manifest


@dataclass(frozen=True)
class Appearance:
    """What a network was trained to see.

    Attributes:
        dataset: Name of the data set.
        height: H.
        width: W.
        mean: Mean of each channel, of pixels scaled to 0..1.
        std: Standard deviation of each channel, of pixels scaled to 0..1.
        class_names: K names in label order, or empty.
        fit: How an image of another shape gets this one.
        zoom: Each pixel of an original became a block of so many rows and columns.
        margin: Rows and columns of black that were then put on each side.
    """

    dataset: str
    height: int
    width: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    class_names: tuple[str, ...] = ()
    fit: Fit = "crop"
    zoom: int = 1
    margin: int = 0

    def name_of(self, label: int) -> str:
        """Of a class: its name, or its number where the data set has no names."""
        return self.class_names[label] if label < len(self.class_names) else str(label)

    def ready(self, picture: bytes | Image.Image) -> np.ndarray:
        """A picture as the data set has its own: uint8 (H, W, 3); one that has the right size stays as it is.

        Args:
            picture: A file's content, or an image of any mode and size.

        Raises:
            UnreadableImage: The file is no image, or is damaged.
            Exception: Whatever Pillow's plugins do with an image that has not been read yet.
        """
        whole, side = self.height, (self.height - 2 * self.margin) // self.zoom
        if isinstance(picture, bytes):
            is_whole = declared_size(picture) == (whole, whole)
            image = decode(picture, whole if is_whole else side, self.fit)
        else:
            upright = plain(picture)
            is_whole = upright.size == (whole, whole)
            image = upright if is_whole else resize(upright, side, self.fit)
        pixels = np.asarray(image.convert("RGB"))
        if is_whole:
            return pixels
        pixels = pixels.repeat(self.zoom, axis=0).repeat(self.zoom, axis=1)
        return np.pad(pixels, ((self.margin, self.margin), (self.margin, self.margin), (0, 0)))


def appearance_of(
    name: str, data: Path, trained: TrainedOn | None = None, notify: Callable[[str], None] = lambda _: None
) -> Appearance:
    """What is known of a data set: by the checkpoint; of an older one by its folder; where that is gone, by the table.

    Args:
        name: Of the data set.
        data: The folder of data sets.
        trained: What a checkpoint keeps of it; None: nothing.
        notify: Told when a damaged folder was passed over, and where all this is from if the checkpoint does not say.

    Raises:
        DataError: None has it, or the folder's manifest is damaged and the catalogue cannot help.
    """
    info, manifest = DATASETS.get(name), data / name / MANIFEST
    known: TrainedOn | Dataset | DatasetInfo | None = trained
    if known is None and manifest.is_file():
        try:
            known = read_manifest(manifest, data, name)
        except DataError as error:
            if info is None:
                raise
            notify(f"{error}; the published facts are used")
    known = known or info
    if known is None:
        raise DataError(
            f"{manifest}: not there, and {name} is none of the published data sets; --data names the folder that has "
            "the data set of this run: size, normalisation and class names are read from it"
        )
    if trained is None:
        source = "the table of published data sets" if known is info else manifest
        notify(
            "the checkpoint keeps nothing of its data set, as those of older versions and of mixmo-pytorch: size, "
            f"normalisation and class names of {name} are taken from {source}"
        )
    if known.height != known.width:
        raise DataError(f"{name}: its images are {known.height}x{known.width}, allowed: squares")
    fit = getattr(known, "fit", None) or "crop"  # nobody kept one where all images had one size
    if fit not in FITS:
        raise DataError(f"{name}: fit: found {fit!r}, allowed: {', '.join(FITS)}")
    return Appearance(
        dataset=name,
        height=known.height,
        width=known.width,
        mean=known.mean,
        std=known.std,
        class_names=known.class_names,
        fit=fit,
        zoom=info.zoom if info else 1,
        margin=info.margin if info else 0,
    )
