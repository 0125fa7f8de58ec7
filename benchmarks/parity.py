"""Does a training here reach what the authors' implementation reaches on the same images with the same recipe?

Fashion-MNIST's first 10,000 training and 5,000 test images, zero-padded by 2 to 32x32, three equal channels, are
written as CIFAR-10 files, converted, and trained on with WRN-10-1 for 8 epochs (B=64, lr 0.05/b, warm-up of 78*b
steps, x0.1 at epochs 5 and 7), three seeds each of a single network and of Cut-MixMo + CutMix. The authors'
implementation was run once on the same files; its last epochs' accuracies are below.

    python -m benchmarks.parity --fashion-mnist FOLDER --json benchmarks/results/parity_fashion_mnist.json

With `--step plain` nothing is used that makes a step fast, so that both can be compared.

Shapes: N images, M members.
"""

import argparse
import json
import pickle
import statistics
import tempfile
from pathlib import Path

import numpy as np
from rich.console import Console

from mixmo_fast.files import write_text
from mixmo_fast.run.build import choose_device
from mixmo_fast.run.train import train_run
from mixmo_fast.runfolder.history import read_progress
from mixmo_fast.training.runlog import environment
from pipelines.datasets.catalog import dataset_info
from pipelines.datasets.convert import convert
from pipelines.datasets.sources_idx import read_idx

SEEDS = (1234, 1235, 1236)

# Top-1 (%) of the authors' implementation after its last epoch, by seed; and how far our mean may be from its mean.
REFERENCE = {
    "single": ((82.66, 83.26, 83.10), 1.5),
    "cutmixmo_cutmix": ((70.82, 65.54, 69.86), 4.0),
}

# What the authors' implementation does: float32, channels outermost, one parameter updated after the other.
STEPS = {
    "default": (),
    "plain": (
        *("step.precision=fp32", "step.channels_last=false", "step.stem=separate", "step.compile=false"),
        *("step.cuda_graph=false", "step.fused_optimizer=false"),
    ),
}

_RECIPE = """
optimizer: {{lr: {lr}, weight_decay: 0.0006}}
schedule: {{epochs: 8, warmup_steps: {warmup}, milestones: {{5: 0.1, 7: 0.1}}}}
data: {{dataset: cifar10}}
batch: {{rows: 64, repetitions: {repetitions}}}
"""
CONFIGS = {
    "single": _RECIPE.format(lr=0.05, warmup=78, repetitions=1)
    + "network: {kind: wide_resnet, depth: 10, width: 1, members: 1}\n",
    "cutmixmo_cutmix": _RECIPE.format(lr=0.0125, warmup=312, repetitions=4)
    + "network: {kind: wide_resnet, depth: 10, width: 1, members: 2}\n"
    + "mixing: {method: patch, prob: 0.5, alpha: 2.0, weight_root: 3}\n"
    + "msda: {method: cutmix, prob: 0.5, beta: 1.0}\n",
}


def write_cifar10(folder: Path, images: np.ndarray, labels: np.ndarray, names: list[str]) -> None:
    """Writes images uint8 (N, 32, 32, 3) as CIFAR-10 batch files, N / len(names) in each."""
    folder.mkdir(parents=True, exist_ok=True)
    parts = zip(np.array_split(images, len(names)), np.array_split(labels, len(names)), names, strict=True)
    for part, part_labels, name in parts:
        content = {
            b"batch_label": name.encode(),
            b"labels": part_labels.tolist(),
            b"data": np.ascontiguousarray(part.transpose(0, 3, 1, 2).reshape(len(part), -1)),
            b"filenames": [b"%d.png" % number for number in range(len(part))],
        }
        (folder / name).write_bytes(pickle.dumps(content, protocol=2))


def make_data(fashion_mnist: Path, data: Path) -> None:
    """Puts the parity data set into `data` as a converted `cifar10`."""
    train, train_labels, test, test_labels = read_idx(dataset_info("fashion_mnist"), fashion_mnist, True)
    folder = data / "cifar-10-batches-py"
    write_cifar10(folder, train[:10_000], train_labels[:10_000], [f"data_batch_{part}" for part in range(1, 6)])
    write_cifar10(folder, test[:5_000], test_labels[:5_000], ["test_batch"])
    convert("cifar10", data, source=folder, verify=False)


def main() -> None:
    """Trains all runs and writes the comparison."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--fashion-mnist", type=Path, required=True, help="folder of its four idx files")
    parser.add_argument("--json", type=Path, required=True, help="where the result goes")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--step", choices=STEPS, default="default", help="how a step is computed")
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS)
    options = parser.parse_args()
    console = Console(width=160)
    result = {"description": __doc__, "configs": CONFIGS, "step": options.step, "runs": {}}
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        make_data(options.fashion_mnist, work / "data")
        for name, text in CONFIGS.items():
            (work / f"{name}.yaml").write_text(text)
            runs = []
            for seed in options.seeds:
                folder = train_run(
                    work / f"{name}.yaml",
                    console,
                    data=work / "data",
                    runs=work / f"seed{seed}",
                    device=options.device,
                    seed=seed,
                    overrides=STEPS[options.step],
                )
                summary, history = read_progress(folder)
                runs.append(
                    {
                        "seed": seed,
                        "top1_by_epoch": [100 * epoch.top1 for epoch in history],
                        "precision": summary.precision,
                        "last": summary.last.as_dict(),
                        "train_seconds_by_epoch": [epoch.train_seconds for epoch in history],
                        "test_seconds_by_epoch": [epoch.test_seconds for epoch in history],
                    }
                )
            result |= environment(choose_device(options.device))
            result["runs"][name] = compare(name, runs)
            write_text(options.json, json.dumps(result, indent=1) + "\n")
    for name, run in result["runs"].items():
        console.print(
            f"{name}: {run['mean_top1']:.2f} % (reference {run['reference_mean_top1']:.2f} %, difference "
            f"{run['difference']:+.2f}, allowed {run['allowed_difference']}), {run['seconds_per_epoch']:.1f} s an epoch"
        )


def compare(name: str, runs: list[dict]) -> dict:
    """Our runs of one recipe beside the reference's."""
    reference, allowed = REFERENCE[name]
    ours = [run["top1_by_epoch"][-1] for run in runs]
    difference = statistics.mean(ours) - statistics.mean(reference)
    return {
        "top1": ours,
        "mean_top1": statistics.mean(ours),
        "reference_top1": reference,
        "reference_mean_top1": statistics.mean(reference),
        "difference": difference,
        "allowed_difference": allowed,
        "within": abs(difference) <= allowed,
        "seconds_per_epoch": statistics.median(s for run in runs for s in run["train_seconds_by_epoch"]),
        "runs": runs,
    }


if __name__ == "__main__":
    main()
