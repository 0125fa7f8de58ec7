"""What the suite for a GPU consists of: each part's commands, and the time that it may take.

Times are upper bounds for a fresh machine. A cold compile of a WideResNet-28-10 takes 30 to 50 s on one thread, of the
smaller networks 15 to 25; parts share what was compiled, so that most take half of their time or less.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.parity import STEPS
from mixmo_fast.runfolder.names import SUMMARY

_PIPELINES_CONFIG = "configs/cifar100/exp_cifar100_wrn2810-2_cutmixmo-p5_msdacutmix_bar4.yaml"
_FASHION = "exp_fashion_mnist_wrn101-2_cutmixmo-p5_standard_bar4"
_FASHION_EPOCHS = ("schedule.epochs=4", "schedule.milestones={3: 0.1, 4: 0.1}")
_TESTS = ("tests/training/test_step_gpu.py", "tests/pipelines/test_pipelines_gpu.py")
_TURNS = ("--repetitions", "3", "--seconds", "1")
# Compiling is most of what a part costs, so most leave out who has to be compiled, but for the default.
_FEW = ("--contestants", "default,eager_fp32_nchw,eager_bf16_channels_last", *_TURNS)
_COMPILED = ("--contestants", "default,compile_defaults,compile_channels_last", *_TURNS)
_RACE_ALONE = ("--no-end-to-end", "--no-stem", "--no-ceiling")


@dataclass(frozen=True)
class Part:
    """One command of the suite.

    Attributes:
        name: Of its files in the output folder.
        seconds: What it may take at most.
        commands: One after the other; the part ends with the first that fails.
        result: The JSON file that the last of them writes, or None.
    """

    name: str
    seconds: float
    commands: Sequence[Sequence[str]]
    result: Path | None = None


def parts(out: Path, cache: Path, device: str, fashion_mnist: Path | None) -> list[Part]:
    """The suite, what matters most first: is it right, is it fast, does it learn; then everything else.

    Args:
        out: Where results go.
        cache: What was compiled; those that are timed from nothing have a folder of their own.
        device: `cuda`, or `cpu` to try it out.
        fashion_mnist: Folder of its four idx files; None leaves the trainings out.
    """
    python, kept = sys.executable, ("--cache", str(cache))

    def training(network: str, members: int, rows: int, seconds: float, *more: str, name: str = "") -> Part:
        name = name or f"training_{network}_m{members}_b{rows}"
        command = [python, "-m", "benchmarks.training", "--network", network, "--members", str(members)]
        command += ["--rows", str(rows), "--device", device, *more, "--json", str(out / f"{name}.json")]
        return Part(name, seconds, [[*command, "--plot", str(out / f"{name}.png")]], out / f"{name}.json")

    def pipelines(name: str, seconds: float, *more: str) -> Part:
        command = [python, "-m", "mixmo_fast", "benchmark", _PIPELINES_CONFIG, "--synthetic", "cifar100"]
        command += ["--device", device, "--repetitions", "3", "--seconds", "0.5", *more]
        command += ["--json", str(out / f"{name}.json"), "--plot", str(out / f"{name}.png")]
        return Part(name, seconds, [command], out / f"{name}.json")

    def to_an_accuracy(name: str, seconds: float, step: str) -> Part:
        data, runs = out / "data", out / "runs" / step
        convert = [python, "-m", "mixmo_fast", "convert", "fashion_mnist", "--source", str(fashion_mnist)]
        train = [python, "-m", "mixmo_fast", "train", f"configs/fashion_mnist/{_FASHION}.yaml", "--runs", str(runs)]
        train += ["--device", device, "--from-scratch", "--no-report"]
        train += [word for change in (*_FASHION_EPOCHS, *STEPS[step]) for word in ("--set", change)]
        commands = [[*convert, "--data", str(data)], [*train, "--data", str(data)]]
        return Part(name, seconds, commands, runs / _FASHION / SUMMARY)

    tests = [python, "-m", "pytest", *_TESTS, "-m", "gpu and not slow", "-q", "-p", "no:cacheprovider"]
    trainings = [to_an_accuracy("fashion_mnist", 90, "default"), to_an_accuracy("fashion_mnist_plain", 150, "plain")]
    return [
        Part("tests", 150, [tests]),
        training("wrn-28-10", 2, 64, 200, *_FEW, *kept),
        *(trainings if fashion_mnist is not None else []),
        *(training(f"res18-{width}", 2, 100, 90, *_FEW, *_RACE_ALONE, *kept) for width in (1, 2, 3)),
        pipelines("pipelines", 75, "--rows", "64,256"),
        # With a whole network in each process, and so without the pipelines that nobody would train with.
        pipelines("pipelines_in_training", 100, "--rows", "64", "--steps", "50", "--pipelines", "resident"),
        pipelines("pipelines_b4096", 60, "--rows", "4096"),
        training(
            "wrn-28-10", 2, 64, 150, "--contestants", "default", "--repetitions", "1", *_RACE_ALONE, name="cold_start"
        ),
        training("wrn-28-10", 2, 64, 200, *_COMPILED, *_RACE_ALONE, *kept, name="training_wrn-28-10_m2_b64_compiled"),
        training("wrn-28-10", 2, 256, 120, *_FEW, "--no-end-to-end", "--no-stem", *kept),
        training("wrn-28-10", 1, 64, 110, *_FEW, *_RACE_ALONE, *kept),
        training("wrn-28-10", 1, 256, 110, *_FEW, *_RACE_ALONE, *kept),
    ]
