"""A network of your own as the trunk: whatever maps feature maps to features becomes several subnetworks.

python examples/own_network.py [EPOCHS]
"""

import sys

import torch
from torch import nn

import mixmo_fast as mf

epochs = int(sys.argv[1]) if len(sys.argv) > 1 else 15


def block(channels_in: int, channels_out: int) -> nn.Sequential:
    """Halves the map: N x channels_in x h x w to N x channels_out x h/2 x w/2."""
    convolution = nn.Conv2d(channels_in, channels_out, 3, stride=2, padding=1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(channels_out), nn.ReLU())


# From N x 32 x 8 x 8 behind the encoders, which halve the digits' 16 x 16, to N x 128 features.
trunk = nn.Sequential(nn.ReLU(), block(32, 64), block(64, 128), nn.AdaptiveAvgPool2d(1), nn.Flatten())

dataset = mf.open_dataset("digits")
encoder = nn.Conv2d(3, 32, 3, stride=2, padding=1, bias=False)
network = mf.MixMo(encoder, trunk, nn.Linear(128, dataset.classes), members=3)
config = mf.load_config(
    "configs/quickstart.yaml", "network.members=3", f"schedule.epochs={epochs}", "batch.repetitions=4"
)
optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3)

# `network=` has the masks drawn for its members and for its map of 8 x 8.
with mf.training_batches(config, dataset, network=network) as batches:
    for epoch in range(1, epochs + 1):
        for batch in batches.epoch(epoch):
            logits = network(batch.images, network.masks(batch))
            optimizer.zero_grad()
            mf.soft_cross_entropy(logits, batch.labels, batch.share, batch.weight).backward()
            optimizer.step()

network.eval()
with torch.no_grad():
    images, labels = next(iter(mf.test_batches(dataset, rows=dataset.test_images)))
    logits = network(images)  # N x M x K
for member in range(network.members):
    print(f"subnetwork {member}: {100 * (logits[:, member].argmax(1) == labels).double().mean():.2f} %")
print(f"together:     {100 * (logits.mean(1).argmax(1) == labels).double().mean():.2f} %")
