"""Fashion-MNIST's own four files, where this machine has them: Debian's package, or a folder that the user names."""

import os
from pathlib import Path

import pytest

FOLDER = Path(os.environ.get("MIXMO_FASHION_MNIST", "/usr/share/datasets/fashion-mnist"))

needs_fashion_mnist = pytest.mark.skipif(
    not (FOLDER / "t10k-images-idx3-ubyte.gz").is_file(),
    reason="needs Fashion-MNIST's files: apt-get install dataset-fashion-mnist, or MIXMO_FASHION_MNIST=FOLDER",
)
