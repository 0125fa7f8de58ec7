"""A network of a library, or anybody's, made two subnetworks in one line.

python examples/library_network.py [EPOCHS]
"""

import sys

import torch
from torchvision.models import resnet18

import mixmo_fast as mf

epochs = int(sys.argv[1]) if len(sys.argv) > 1 else 10
dataset = mf.open_dataset("digits")

# Its first convolution becomes two encoders, its last linear layer two heads. With weights that are worth keeping,
# resnet18(weights="DEFAULT"), leave out keep_weights=False and say classes=10.
model = resnet18(num_classes=dataset.classes)
network = mf.mimoify(model, members=2, keep_weights=False, image_size=dataset.height)

config = mf.load_config("configs/quickstart.yaml", f"schedule.epochs={epochs}", "batch.repetitions=1")
optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3)

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
    logits = network(images)  # N x M x K: both encoders as one convolution, the cost of one network
for member in range(network.members):
    print(f"subnetwork {member}: {100 * (logits[:, member].argmax(1) == labels).double().mean():.2f} %")
print(f"together:     {100 * (logits.mean(1).argmax(1) == labels).double().mean():.2f} %")
