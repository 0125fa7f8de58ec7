"""MixMo in a training loop of your own: two subnetworks on real handwritten digits.

python examples/own_loop.py [EPOCHS]
"""

import sys

import torch

import mixmo_fast as mf

epochs = int(sys.argv[1]) if len(sys.argv) > 1 else 10

config = mf.load_config(
    {
        "data": {"dataset": "digits"},
        "network": {"kind": "wide_resnet", "depth": 10, "width": 1, "members": 2},
        "mixing": {"method": "patch", "prob": 0.5, "alpha": 2.0, "weight_root": 3},  # Cut-MixMo
        "batch": {"rows": 64, "repetitions": 2},  # 32 distinct images a step
        "optimizer": {"lr": 0.1, "weight_decay": 6e-4},
        "schedule": {"epochs": epochs, "warmup_steps": 0},
    }
)
dataset = mf.open_dataset("digits")  # converted into data/digits the first time
network = mf.build_network(config, dataset.classes)
optimizer = torch.optim.SGD(
    network.parameters(), config.optimizer.lr, momentum=0.9, nesterov=True, weight_decay=config.optimizer.weight_decay
)
schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)

with mf.training_batches(config, dataset) as batches:
    for epoch in range(1, epochs + 1):
        network.train()
        for batch in batches.epoch(epoch):
            logits = network(batch.images, network.masks(batch))  # one input and one output for each member
            loss = mf.soft_cross_entropy(logits, batch.labels, batch.share, batch.weight)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        schedule.step()
        print(f"epoch {epoch}: loss of the last step {loss.item():.3f}")

network.eval()
with torch.no_grad():
    right = sum((network(images).mean(1).argmax(1) == labels).sum() for images, labels in mf.test_batches(dataset))
print(f"top-1 of the two subnetworks together: {100 * right / dataset.test_images:.2f} %")
