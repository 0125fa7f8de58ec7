"""Images of your own in a loop of your own: arrays in memory, and any torch Dataset.

python examples/own_data.py [EPOCHS]
"""

import sys

import numpy as np
import torch
from sklearn.datasets import load_digits

import mixmo_fast as mf


class Pairs(torch.utils.data.Dataset):
    """Pairs of an image and its class, as torchvision's data sets give them without a transform."""

    def __init__(self, images: np.ndarray, labels: np.ndarray):
        self.images, self.labels = images, labels

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        return self.images[index], self.labels[index]


def main(epochs: int) -> None:
    """Trains two subnetworks on 1,500 of scikit-learn's digits, and tests on the others."""
    digits = load_digits()
    images, labels = (digits.images * 15.9).astype(np.uint8), digits.target  # N x 8 x 8 bytes, grey; N classes
    train, test = slice(0, 1500), slice(1500, None)
    mean, std = mf.mean_and_std(images[train])
    recipe = mf.Recipe(
        images=1500,
        rows=64,
        repetitions=2,  # 32 distinct images a step
        members=2,
        image_size=(8, 8),
        map_size=(8, 8),  # behind the encoders, which keep the size
        crop_padding=1,
        flip=False,
        epochs=epochs,
        mixing=mf.ManifoldMixing("patch", prob=0.5, alpha=2.0, weight_root=3.0, decay_from=11 / 12),  # Cut-MixMo
    )
    config = mf.load_config("configs/quickstart.yaml")
    network = mf.build_network(config, classes=10)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=5e-4)

    with mf.batches_of(images[train], labels[train], recipe, mean=mean, std=std) as batches:
        for epoch in range(1, epochs + 1):
            for batch in batches.epoch(epoch):
                logits = network(batch.images, network.masks(batch))
                optimizer.zero_grad()
                mf.soft_cross_entropy(logits, batch.labels, batch.share, batch.weight).backward()
                optimizer.step()

    network.eval()
    with torch.no_grad():
        right = network(mf.normalise(images[test], mean, std)).mean(1).argmax(1).numpy() == labels[test]
    print(f"top-1 of the two subnetworks together: {100 * right.mean():.2f} %")

    # The same batches from a Dataset, whose items two processes make; these two lines are all that changes.
    pairs = Pairs(images[train], labels[train])
    with mf.batches_of(pairs, None, recipe, mean=mean, std=std, workers=2) as batches:
        first = next(iter(batches.epoch(1)))
    print(f"a batch from a Dataset: images {tuple(first.images.shape)}, labels {tuple(first.labels.shape)}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 15)
