"""Data sets of a user's own in a plan: what its work depends on is kept there, since only a folder knows it.

Shapes: H W pixels, K classes.
"""

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from pipelines.datasets.catalog import DATASETS
from pipelines.datasets.store import describe_dataset


class OwnData(BaseModel):
    """What a plan has to know of a data set that is not in the catalogue."""

    model_config = ConfigDict(frozen=True)

    train_images: int = Field(ge=1)
    """Of the training split, held-out ones included."""
    classes: int = Field(ge=1)
    """K."""
    height: int = Field(ge=1)
    """H, pixels."""
    width: int = Field(ge=1)
    """W, pixels."""


def find_own_data(data: Path, name: str) -> OwnData | None:
    """What the folder of a data set says; None for one of the catalogue.

    Raises:
        DataError: There is no such folder, or it is damaged.
    """
    if name in DATASETS:
        return None
    found = describe_dataset(data, name)
    return OwnData(train_images=found.train_images, classes=found.classes, height=found.height, width=found.width)
