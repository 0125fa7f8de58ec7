"""What a network was trained on: kept in its checkpoint, so that it can be fed, and other data be told apart.

Shapes: H W pixels, C channels, K classes.
"""

from mixmo_fast.runfolder.record import Record

_FILES = {
    "train_images_sha256": "training images",
    "train_labels_sha256": "training labels",
    "test_images_sha256": "test images",
    "test_labels_sha256": "test labels",
}


class TrainedOn(Record):
    """The data set of a run.

    Attributes:
        name: As `data.dataset` says it.
        title: For people.
        classes: K.
        class_names: K names in label order; empty where there are none.
        train_images: How many.
        test_images: How many.
        height: H of the network's images.
        width: W of them.
        mean: Of each channel, C numbers, of pixels scaled to 0..1; subtracted from an image.
        std: What the difference is divided by.
        fit: How images of another size were brought to this one; None where all had it.
        crop_padding: Zeros on each side before the random crop where the configuration leaves it open, pixels; None in
            files of versions that did not keep it.
        flip: Whether images are mirrored where the configuration leaves it open; None likewise.
        train_images_sha256: Of the file that holds them, as the three others.
        train_labels_sha256: As its name says.
        test_images_sha256: As its name says.
        test_labels_sha256: As its name says.
    """

    name: str
    title: str
    classes: int
    class_names: tuple[str, ...]
    train_images: int
    test_images: int
    height: int
    width: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    fit: str | None = None
    crop_padding: int | None = None
    flip: bool | None = None
    train_images_sha256: str
    train_labels_sha256: str
    test_images_sha256: str
    test_labels_sha256: str


def difference(trained: TrainedOn, found: TrainedOn) -> str | None:
    """In which first respect other data are found than those that were trained on, in words; None: they are the same.

    Titles are not compared: nothing depends on them; nor is what only further training depends on.
    """
    for what, counted, counted_now in (
        ("classes", trained.classes, found.classes),
        ("training images", trained.train_images, found.train_images),
        ("test images", trained.test_images, found.test_images),
    ):
        if counted != counted_now:
            return f"{counted:,} {what} then, {counted_now:,} now"
    if (trained.height, trained.width) != (found.height, found.width):
        return f"images of {trained.height}x{trained.width} then, {found.height}x{found.width} now"
    for what, numbers, numbers_now in (("mean", trained.mean, found.mean), ("std", trained.std, found.std)):
        if numbers != numbers_now:
            return f"{what} {_short(numbers)} then, {_short(numbers_now)} now"
    for name, name_now in zip(trained.class_names, found.class_names, strict=False):
        if name != name_now:
            return f"class {name!r} then, {name_now!r} in its place now"
    for key, what in _FILES.items():
        sha256, sha256_now = getattr(trained, key), getattr(found, key)
        if sha256 != sha256_now:
            return f"other {what}: sha256 {sha256[:12]}... then, {sha256_now[:12]}... now"
    return None


def _short(numbers: tuple[float, ...]) -> str:
    return ", ".join(f"{number:.4g}" for number in numbers)
