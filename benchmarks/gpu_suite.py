"""Everything that only a GPU can show, in one command for a fresh machine, in less than nine minutes.

    python -m benchmarks.gpu_suite --out results_of_this_gpu --fashion-mnist FOLDER

Each part is a command of its own, has its share of the time, and leaves its files in `--out` when it is finished, so
that an interrupted suite leaves what was measured. Needs torch and the project's own dependencies, pytest included;
DALI and FFCV take part where they are installed.
"""

import argparse
import json
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mixmo_fast.errors import MixmoError
from mixmo_fast.files import write_text
from mixmo_fast.run.build import choose_device
from mixmo_fast.runfolder.names import SUMMARY

_PIPELINES_CONFIG = "configs/cifar100/exp_cifar100_wrn2810-2_cutmixmo-p5_msdacutmix_bar4.yaml"
_FASHION = "exp_fashion_mnist_wrn101-2_cutmixmo-p5_standard_bar4"
_FASHION_EPOCHS = ("schedule.epochs=4", "schedule.milestones={3: 0.1, 4: 0.1}")
_TESTS = ("tests/training/test_step_gpu.py", "tests/pipelines/test_pipelines_gpu.py")
# Compiling is most of what a part costs, so the later parts leave out who has to be compiled, but for the default.
_SHORT = ("--contestants", "default,eager_fp32_nchw,eager_bf16_channels_last", "--repetitions", "3", "--seconds", "1")


_LEAST_SECONDS = 1.0
_SECONDS_TO_END = 20


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


def parts(out: Path, device: str, fashion_mnist: Path | None) -> list[Part]:
    """The suite, what matters most first."""
    python = sys.executable

    def training(network: str, members: int, rows: int, seconds: float, *more: str) -> Part:
        name = f"training_{network}_m{members}_b{rows}"
        command = [python, "-m", "benchmarks.training", "--network", network, "--members", str(members)]
        command += ["--rows", str(rows), "--device", device, *more, "--json", str(out / f"{name}.json")]
        return Part(name, seconds, [[*command, "--plot", str(out / f"{name}.png")]], out / f"{name}.json")

    def pipelines(name: str, seconds: float, *more: str) -> Part:
        command = [python, "-m", "mixmo_fast", "benchmark", _PIPELINES_CONFIG, "--synthetic", "cifar100"]
        command += ["--device", device, "--repetitions", "3", "--seconds", "0.5", *more]
        command += ["--json", str(out / f"{name}.json"), "--plot", str(out / f"{name}.png")]
        return Part(name, seconds, [command], out / f"{name}.json")

    tests = [python, "-m", "pytest", *_TESTS, "-m", "gpu and not slow", "-q", "-p", "no:cacheprovider"]
    short = (*_SHORT, "--no-end-to-end")
    found = [
        Part("tests", 60, [tests]),
        training("wrn-28-10", 2, 64, 75, *_SHORT),
        pipelines("pipelines", 35, "--rows", "64,256"),
        pipelines("pipelines_b4096", 25, "--rows", "4096"),
        # With a whole network in each process, and so without the pipelines that nobody would train with.
        pipelines("pipelines_in_training", 40, "--rows", "64", "--steps", "50", "--pipelines", "resident"),
        *(training(f"res18-{width}", 2, 100, 40, *short, "--no-ceiling") for width in (1, 2, 3)),
        training("wrn-28-10", 2, 256, 45, *short),
        training("wrn-28-10", 1, 64, 40, *short, "--no-ceiling"),
        training("wrn-28-10", 1, 256, 40, *short, "--no-ceiling"),
    ]
    if fashion_mnist is not None:
        data, runs = out / "data", out / "runs"
        convert = [python, "-m", "mixmo_fast", "convert", "fashion_mnist", "--source", str(fashion_mnist)]
        train = [python, "-m", "mixmo_fast", "train", f"configs/fashion_mnist/{_FASHION}.yaml", "--runs", str(runs)]
        train += ["--device", device, *(word for change in _FASHION_EPOCHS for word in ("--set", change))]
        commands = [[*convert, "--data", str(data)], [*train, "--data", str(data)]]
        found.insert(5, Part("fashion_mnist", 60, commands, runs / _FASHION / SUMMARY))
    return found


def run_suite(suite: Sequence[Part], out: Path, seconds: float, say: Callable[[str], None]) -> dict[str, Any]:
    """Runs parts until the time is over, and returns what became of each. Results of an earlier suite are removed.

    Each one's output is in `NAME.log`; `suite.json` in the same folder is written after each.
    """
    out.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + seconds
    states: dict[str, Any] = {}
    for part in suite:
        left = deadline - time.monotonic()
        if left < _LEAST_SECONDS:
            states[part.name] = {"state": "no time left"}
            continue
        say(f"{part.name}: at most {min(part.seconds, left):.0f} s")
        started = time.monotonic()
        if part.result is not None:
            part.result.unlink(missing_ok=True)
        state = _run(part, out / f"{part.name}.log", min(part.seconds, left))
        states[part.name] = {"state": state, "seconds": time.monotonic() - started}
        if part.result is not None and part.result.is_file():
            states[part.name]["result"] = json.loads(part.result.read_text())
        write_text(out / "suite.json", json.dumps(states, indent=1) + "\n")
    return states


def _run(part: Part, log: Path, seconds: float) -> str:
    deadline = time.monotonic() + seconds
    with log.open("w", encoding="utf-8") as output:
        for command in part.commands:
            output.write(f"$ {shlex.join(command)}\n")
            output.flush()
            with subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT) as process:
                try:
                    code = process.wait(max(0.1, deadline - time.monotonic()))
                except subprocess.TimeoutExpired:
                    _interrupt(process)
                    return "out of time"
            if code:
                return f"failed (exit code {code})"
    return "finished"


def _interrupt(process: subprocess.Popen) -> None:
    """Ends a command as Ctrl-C would, so that it removes what it made for the time being."""
    process.send_signal(signal.SIGINT)
    try:
        process.wait(_SECONDS_TO_END)
    except subprocess.TimeoutExpired:
        process.kill()


def summary(states: Mapping[str, Any], out: Path) -> list[str]:
    """One line a part: what it found, or why it found nothing."""
    lines = []
    for name, state in states.items():
        result = state.get("result")
        found = "; ".join(_words(name, result)) if result else ""
        if name == "tests" and (out / "tests.log").is_file():
            found = (out / "tests.log").read_text().strip().rsplit("\n", 1)[-1].strip("= ")
        marks = "" if state["state"] == "finished" else f" [{state['state']}, see {out / name}.log]"
        lines.append(f"{name}: {found or 'nothing'}{marks}")
    return lines


def _words(name: str, result: Mapping[str, Any]) -> list[str]:
    if name == "fashion_mnist":
        return [
            f"top-1 {100 * result['last']['top1']:.2f} % after {result['epochs']} epochs",
            f"{result['rows_per_second']:,.0f} rows/s, {result['precision']}, {result['device']}",
        ]
    if name.startswith("pipelines"):
        panels = result["row_counts"].items()
        return [f"B={rows} " + ", ".join(_pipeline_words(panel["contestants"])) for rows, panel in panels]
    words = []
    for contestant, one in result["contestants"].items():
        if "error" in one:
            words.append(f"{contestant} failed")
        else:
            words.append(f"{contestant} {one['rows_per_second']:,.0f} rows/s, MFU {100 * one['mfu']:.0f} %")
    for part, key, label in (
        ("data", "ratio", "new/frozen data {:.3f}"),
        ("ceiling", "share_of_ceiling", "{:.0%} of the convolutions' ceiling"),
        ("end_to_end", "ratio", "end to end {:.1f} x the reference"),
    ):
        value = (result.get(part) or {}).get(key)
        words += [label.format(value)] if value is not None else []
    return words


def _pipeline_words(contestants: Mapping[str, Any]) -> list[str]:
    return [
        f"{name} {one['rows_per_second']:,.0f} rows/s"
        + (f" (step new/frozen {one['step_ratio']:.3f})" if "step_ratio" in one else "")
        for name, one in contestants.items()
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the suite and prints its summary; exit code 1 when a part did not finish."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu_suite", description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="folder for results and logs")
    parser.add_argument(
        "--fashion-mnist", type=Path, help="folder of its four idx files; without it no training to an accuracy"
    )
    parser.add_argument("--device", default="cuda", help="cuda; cpu to try the suite out")
    parser.add_argument("--minutes", type=float, default=8.5, help="for all parts together")
    parser.add_argument("--only", help="names of parts, separated by commas")
    parser.add_argument("--dry-run", action="store_true", help="print the commands and end")
    options = parser.parse_args(arguments)
    try:
        suite = _choose(parts(options.out, options.device, options.fashion_mnist), options.only)
        if options.dry_run:
            for part in suite:
                print(f"# {part.name}: at most {part.seconds:.0f} s")
                print(*map(shlex.join, part.commands), sep="\n")
            return
        choose_device(options.device)
        states = run_suite(suite, options.out, 60 * options.minutes, lambda line: print(line, flush=True))
    except MixmoError as error:
        print(f"benchmarks.gpu_suite: {error}", file=sys.stderr)
        sys.exit(2)
    print()
    print(*summary(states, options.out), sep="\n")
    if any(state["state"] != "finished" for state in states.values()):
        sys.exit(1)


def _choose(suite: Sequence[Part], names: str | None) -> Sequence[Part]:
    """The parts with these names.

    Raises:
        MixmoError: When one is unknown.
    """
    if names is None:
        return suite
    wanted = [name.strip() for name in names.split(",")]
    for name in wanted:
        if name not in [part.name for part in suite]:
            raise MixmoError(f"--only: found {name!r}, allowed: {', '.join(part.name for part in suite)}")
    return [part for part in suite if part.name in wanted]


if __name__ == "__main__":
    main()
