"""A run folder with every section that a report can have: plausible numbers beside a history that is made up, too."""

import json
from pathlib import Path

import numpy as np

CORRUPTIONS = (
    *("gaussian_noise", "shot_noise", "impulse_noise", "defocus_blur", "glass_blur", "motion_blur", "zoom_blur"),
    *("snow", "frost", "fog", "brightness", "contrast", "elastic_transform", "pixelate", "jpeg_compression"),
)
CLASSES = (
    "T-shirt/top",
    "Trouser",
    "<b>&\"'</b>",
    "$Dress$",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)


def write_json(path: Path, content: object) -> None:
    path.write_text(json.dumps(content, indent=1) + "\n")


def epochs_of(number: int, members: int = 2) -> list[dict]:
    """Rows of `metrics.jsonl`."""
    rng = np.random.default_rng(1)
    rows = []
    for epoch in range(1, number + 1):
        done = epoch / number
        top1 = 0.3 + 0.6 * done**0.4 + 0.01 * rng.normal()
        own = [top1 - 0.02 - 0.01 * abs(rng.normal()) for _ in range(members)]
        rows.append(
            {
                "epoch": epoch,
                "learning_rate": 0.1 * 0.1 ** (int(done > 0.5) + int(done > 0.75)),
                "train_loss": 4.6 - 3 * done**0.5,
                "rows_per_second": 2800 + 10 * epoch,
                "train_seconds": 1.5,
                "top1": top1,
                "nll": 2 - 1.6 * done,
                "ece": 0.2 - 0.1 * done,
                "member_top1": own,
                "member_top1_mean": sum(own) / members,
                "diversity": 0.6 + 0.4 * done + 0.05 * rng.normal(),
                "disagreement": 0.3 - 0.2 * done,
            }
        )
    return rows


def evaluation(classes: int = 10, names: tuple[str, ...] = CLASSES, images: int = 10_000, members: int = 2) -> dict:
    """`evaluation.json`, of predictions drawn by chance."""
    rng = np.random.default_rng(2)
    labels = np.arange(images) % classes
    logits = rng.normal(size=(images, classes)) * 1.2
    logits[np.arange(images), labels] += 3.6
    logits[np.arange(images), (labels + 2 * (labels % 3)) % classes] += rng.normal(1.2, 1, images)
    probabilities = np.exp(logits / 1.5)
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    prediction = probabilities.argmax(axis=1)
    right = prediction == labels
    confusion = np.zeros((classes, classes), int)
    np.add.at(confusion, (labels, prediction), 1)
    before = _bins(probabilities.max(axis=1), right)
    sharper = probabilities**1.45 / (probabilities**1.45).sum(axis=1, keepdims=True)
    by_confidence = right[np.argsort(-probabilities.max(axis=1))]
    risk = 1 - by_confidence.cumsum() / np.arange(1, images + 1)
    points = np.linspace(1, images, min(201, images)).astype(int) - 1
    scores = {
        "top1": right.mean(),
        "top5": 0.991,
        "nll": -np.log(probabilities[np.arange(images), labels]).mean(),
        "ece": _ece(before, images),
        "brier": 0.2134,
        "brier_per_class": 0.02134,
        "auc": 0.913,
        "tace": 0.0213,
        "member_top1": [right.mean() - 0.013 - 0.002 * member for member in range(members)],
        "member_top1_mean": right.mean() - 0.015,
        "diversity": 0.83,
        "disagreement": 0.112,
    }
    drop = np.linspace(0.02, 0.11, len(CORRUPTIONS))[:, None] * np.arange(1, 6) + 0.01 * rng.random(
        (len(CORRUPTIONS), 5)
    )
    detectors = [
        {"name": name, "auroc": auroc, "fpr95": 1.2 - auroc, "aupr": auroc - 0.02}
        for name, auroc in (("max_probability", 0.88), ("entropy", 0.893), ("energy", 0.921), ("disagreement", 0.861))
    ]
    after = _bins(sharper.max(axis=1), right)
    return {
        "dataset": "fashion_mnist",
        "split": "test",
        "images": images,
        "checkpoint": "runs/sample/checkpoints/last.pt",
        "epoch": 30,
        "ensemble": "logits",
        **scores,
        "classes": list(names),
        "reliability": {"before": before, "after": after},
        "confusion": confusion.tolist(),
        "temperature_scaling": {
            "calibrated_on": "test-halves",
            "temperatures": [0.671, 0.664],
            "scores": scores | {"nll": scores["nll"] - 0.06, "ece": _ece(after, images)},
        },
        "selective": {
            "coverage": ((points + 1) / images).tolist(),
            "risk": risk[points].tolist(),
            "aurc": risk.mean(),
            **{f"accuracy_at_{part}": 1 - risk[images * part // 100 - 1] for part in (80, 90, 95)},
        },
        "robustness": {
            "source": "synthetic",
            "corruptions": list(CORRUPTIONS),
            "severities": [1, 2, 3, 4, 5],
            "top1": (right.mean() - drop).tolist(),
            "pooled": scores,
            "mean_top1": (right.mean() - drop).mean(),
            "mce": None,
            "mce_against": None,
        },
        "ood": [
            {"dataset": "digits", "images": 359, "detectors": detectors},
            {"dataset": "cifar10", "images": 10_000, "detectors": detectors[::-1]},
        ],
    }


def inspection(members: int = 2, layers: int = 12) -> dict:
    """`inspection.json`."""
    rng = np.random.default_rng(3)
    norms = rng.gamma(2, 1, (members, 16))
    base = np.array([0.93, 0.81, 0.62, 0.44])
    shares = [np.clip(base + 0.3 * rng.random() - 0.25, 0, 1).tolist() for _ in range(layers)]
    return {
        "checkpoint": "runs/sample/checkpoints/last.pt",
        "epoch": 30,
        "encoder_l1": norms.tolist(),
        "active_filters": {
            "thresholds": [0.2, 0.3, 0.4, 0.5],
            "share": base.tolist(),
            "layers": [
                {"name": f"layer{1 + n // 4}.{n // 2 % 2}.conv{1 + n % 2}", "filters": 16 << n // 4, "share": share}
                for n, share in enumerate(shares)
            ],
        },
        "top1_by_members": [
            {
                "members": n,
                "top1": 0.92 - 0.02 / n,
                "lowest": 0.92 - 0.02 / n - spread,
                "highest": 0.92 - 0.02 / n + spread,
            }
            for n in range(1, members + 1)
            for spread in [0.004 * (members - n) / members]
        ],
        "epochs": [],
    }


def _bins(confidence: np.ndarray, right: np.ndarray) -> list[dict]:
    which = np.ceil(15 * confidence).astype(int) - 1
    bins = []
    for number in range(15):
        inside = which == number
        count = int(inside.sum())
        averages = (confidence[inside].mean(), right[inside].mean()) if count else (None, None)
        edges = {"low": number / 15, "high": (number + 1) / 15}
        bins.append(edges | {"count": count, "confidence": averages[0], "accuracy": averages[1]})
    return bins


def _ece(bins: list[dict], images: int) -> float:
    return sum(one["count"] * abs(one["confidence"] - one["accuracy"]) for one in bins if one["count"]) / images
