"""What is known of each data set before a byte of it is read: shapes, counts, normalisation, augmentation, checksums.

Everything here is a published fact or a constant whose derivation stands beside it. Other files read the table and
never restate it. Legend: N images, H W pixels, C channels, K classes; images are uint8, N x H x W x C.

The checksums are MD5, because that is what the publishers print. They guard against accidents (a cut download, a
changed copy); against malice the readers defend themselves, by never running what a file says.
"""

import difflib
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from mixmo_fast.errors import DataError


@dataclass(frozen=True)
class ServedFile:
    """A file as its publisher serves it.

    Attributes:
        name: File name.
        url: Where it is served.
        md5: MD5 of the file as served, hexadecimal.
    """

    name: str
    url: str
    md5: str


@dataclass(frozen=True)
class OriginalFile:
    """One original file that holds images or labels, unpacked.

    Attributes:
        name: File name, without a folder and without `.gz`.
        md5: MD5 of the unpacked content, hexadecimal, so that the same images in another wrapping still pass.
    """

    name: str
    md5: str


@dataclass(frozen=True)
class DatasetInfo:
    """What is known of one data set.

    Attributes:
        name: Short name, as written in configurations and folder names.
        title: Name for people.
        classes: K.
        class_names: K names in label order, or empty where they are many.
        train_images: N of the training split, as published.
        test_images: N of the test split, as published.
        height: H as converted, pixels.
        width: W as converted, pixels.
        mean: Mean of each channel, of pixels scaled to 0..1.
        std: Standard deviation of each channel, of pixels scaled to 0..1.
        crop_padding: Zero padding of the default random crop, pixels on each side.
        flip: Whether the default augmentation mirrors left-right.
        channels: C, always 3; grey images are repeated.
        zoom: Each pixel of an original became a block of so many rows and columns.
        margin: Rows and columns of black that were then put on each side.
        embedded: True where neither files nor a download are needed.
        downloadable: True where the originals can be fetched without a person.
        served: The files as served, in the order in which they are fetched.
        archive: Name of the archive that holds all originals, or None where they are served one by one.
        files: The original files inside, in reading order, those of the test split last.
        places: Folders, relative to the one that is searched, where the unpacked originals usually lie.
        download_folder: The folder, relative to the data folder, into which `served` is fetched.
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
    crop_padding: int
    flip: bool
    channels: Literal[3] = 3
    zoom: int = 1
    margin: int = 0
    embedded: bool = False
    downloadable: bool = False
    served: tuple[ServedFile, ...] = ()
    archive: str | None = None
    files: tuple[OriginalFile, ...] = ()
    places: tuple[str, ...] = ("",)
    download_folder: str = ""


# Mean and standard deviation of the training split as `sources.py` makes it; `test_catalog.py` recomputes them.
_DIGITS = DatasetInfo(
    name="digits",
    title="Optical digits (UCI, as in scikit-learn)",
    classes=10,
    class_names=tuple("0123456789"),
    train_images=1438,
    test_images=359,
    height=16,
    width=16,
    mean=(0.3053919438081213,) * 3,
    std=(0.37533770606280425,) * 3,
    crop_padding=2,
    flip=False,
    zoom=2,
    embedded=True,
)

# Served files: URLs and MD5 as in torchvision.datasets.FashionMNIST. Unpacked files: derived from Debian's package
# dataset-fashion-mnist, whose .gz files were packed anew without the file's name and time; with those two put back
# into the gzip header (31 August 2017) all four have the MD5 that torchvision publishes, so the content is the
# original one. Mean and standard deviation are those of the 60,000 training images after padding to 32 x 32 (without
# the padding they are the familiar 0.2860 and 0.3530).
_FASHION_URL = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"
_FASHION_MNIST = DatasetInfo(
    name="fashion_mnist",
    title="Fashion-MNIST",
    classes=10,
    class_names=(
        *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
        *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
    ),
    train_images=60_000,
    test_images=10_000,
    height=32,
    width=32,
    mean=(0.21899983206954654,) * 3,
    std=(0.331811372999959,) * 3,
    crop_padding=4,
    flip=True,
    margin=2,
    downloadable=True,
    served=tuple(
        ServedFile(name, _FASHION_URL + name, md5)
        for name, md5 in (
            ("train-images-idx3-ubyte.gz", "8d4fb7e6c68d591d4c3dfef9ec88bf0d"),
            ("train-labels-idx1-ubyte.gz", "25c81989df183df01b3e8a0aad5dffbe"),
            ("t10k-images-idx3-ubyte.gz", "bef4ecab320f06d8554ea6380940ec79"),
            ("t10k-labels-idx1-ubyte.gz", "bb300cfdad3c16e7a12a480ee83cd310"),
        )
    ),
    files=(
        OriginalFile("train-images-idx3-ubyte", "f4a8712d7a061bf5bd6d2ca38dc4d50a"),
        OriginalFile("train-labels-idx1-ubyte", "9018921c3c673c538a1fc5bad174d6f9"),
        OriginalFile("t10k-images-idx3-ubyte", "8181f5470baa50b63fa0f6fddb340f0a"),
        OriginalFile("t10k-labels-idx1-ubyte", "15d484375f8d13e6eb1aabb0c3f46965"),
    ),
    places=("", "fashion_mnist-originals", "FashionMNIST/raw", "raw", "fashion-mnist"),
    download_folder="FashionMNIST/raw",
)

# MD5 of the archive: https://www.cs.toronto.edu/~kriz/cifar.html; of the files inside: torchvision.datasets.CIFAR10.
# Mean and standard deviation: those of the MixMo experiments.
_CIFAR_MEAN = (0.4913725490196078, 0.4823529411764706, 0.4466666666666667)
_CIFAR_STD = (0.2023, 0.1994, 0.2010)
_CIFAR10 = DatasetInfo(
    name="cifar10",
    title="CIFAR-10",
    classes=10,
    class_names=(
        *("airplane", "automobile", "bird", "cat", "deer"),
        *("dog", "frog", "horse", "ship", "truck"),
    ),
    train_images=50_000,
    test_images=10_000,
    height=32,
    width=32,
    mean=_CIFAR_MEAN,
    std=_CIFAR_STD,
    crop_padding=4,
    flip=True,
    downloadable=True,
    served=(
        ServedFile(
            "cifar-10-python.tar.gz",
            "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
            "c58f30108f718f92721af3b95e74349a",
        ),
    ),
    archive="cifar-10-python.tar.gz",
    files=(
        OriginalFile("data_batch_1", "c99cafc152244af753f735de768cd75f"),
        OriginalFile("data_batch_2", "d4bba439e000b95fd0a9bffe97cbabec"),
        OriginalFile("data_batch_3", "54ebc095f3ab1f0389bbae665268c751"),
        OriginalFile("data_batch_4", "634d18415352ddfa80567beed471001a"),
        OriginalFile("data_batch_5", "482c414d41f54cd18b22e5b47cb7c3cb"),
        OriginalFile("test_batch", "40351d587109b95175f43aff81a1287e"),
    ),
    places=(
        *("", "cifar-10-batches-py", "cifar10-originals", "cifar10-originals/cifar-10-batches-py"),
        *("cifar10-data", "cifar10-data/cifar-10-batches-py"),
    ),
)

# Sources as for CIFAR-10: the publisher's page and torchvision.datasets.CIFAR100. The labels are the 100 fine ones.
_CIFAR100 = DatasetInfo(
    name="cifar100",
    title="CIFAR-100 (fine labels)",
    classes=100,
    class_names=(),
    train_images=50_000,
    test_images=10_000,
    height=32,
    width=32,
    mean=_CIFAR_MEAN,
    std=_CIFAR_STD,
    crop_padding=4,
    flip=True,
    downloadable=True,
    served=(
        ServedFile(
            "cifar-100-python.tar.gz",
            "https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz",
            "eb9058c3a382ffc7106e4002c42a8d85",
        ),
    ),
    archive="cifar-100-python.tar.gz",
    files=(
        OriginalFile("train", "16019d7e3df5f24257cddd939b257f8d"),
        OriginalFile("test", "f0ef6b0ae62326f3e7ffdfab6717acfc"),
    ),
    places=(
        *("", "cifar-100-python", "cifar100-originals", "cifar100-originals/cifar-100-python"),
        *("cifar100-data", "cifar100-data/cifar-100-python"),
    ),
)

# The publisher prints no checksum; this MD5 of the archive is the one that the public loaders of it agree on. Nothing
# is published for the unpacked images. The labelled `val` folder serves as the test split, as in the paper.
_TINYIMAGENET = DatasetInfo(
    name="tinyimagenet",
    title="Tiny ImageNet-200",
    classes=200,
    class_names=(),
    train_images=100_000,
    test_images=10_000,
    height=64,
    width=64,
    mean=(0.5, 0.5, 0.5),
    std=(0.5, 0.5, 0.5),
    crop_padding=4,
    flip=True,
    served=(
        ServedFile(
            "tiny-imagenet-200.zip",
            "http://cs231n.stanford.edu/tiny-imagenet-200.zip",
            "90528d7ca1a48142e341f4ef8d21d0de",
        ),
    ),
    archive="tiny-imagenet-200.zip",
    places=(
        *("", "tiny-imagenet-200", "tinyimagenet-originals", "tinyimagenet-originals/tiny-imagenet-200"),
        "tinyimagenet200-data",
    ),
)

DATASETS = MappingProxyType({info.name: info for info in (_DIGITS, _FASHION_MNIST, _CIFAR10, _CIFAR100, _TINYIMAGENET)})


def dataset_info(name: str) -> DatasetInfo:
    """What is known of the data set `name`.

    Raises:
        DataError: There is no such data set; the line lists the known names and the nearest one.
    """
    if name in DATASETS:
        return DATASETS[name]
    nearest = difflib.get_close_matches(name.lower().replace("-", ""), DATASETS, n=1, cutoff=0.7)
    hint = f" (did you mean {nearest[0]}?)" if nearest else ""
    raise DataError(
        f"unknown data set {name!r}{hint}: the known ones are {', '.join(DATASETS)}; "
        "`mixmo-fast convert folder PATH --name NAME` makes one of your own images"
    )
