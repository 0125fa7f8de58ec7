"""How fast a training step is, beside the ways to take it that people use, and beside what the machine allows.

    python -m benchmarks.training --network wrn-16-2 --members 2 --rows 64 --json result.json

One member trains alone; two or more train with Cut-MixMo + CutMix, each image four times in a step, as in the paper
(arXiv 2103.06132). Images are random bytes in the shape of CIFAR-100 (wrn-D-K, WideResNet) or Tiny ImageNet (res18-W,
PreActResNet-18). All contestants live in this process and take turns; the result is rewritten after each part, so that
an interrupted run leaves what it has.

Shapes: B rows, M members.
"""

import argparse
import json
import os
import resource
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn
from unittest.mock import patch

import torch
from rich.console import Console

from benchmarks.ceiling import convolution_ceiling, convolutions, matrix_peak
from benchmarks.opponents import DEFAULT, REFERENCE, WORDS, Opponent
from benchmarks.race import Racer, one_line, prepare, race_round
from benchmarks.training_parts import RandomData, data_cost, end_to_end, idle_share, stem_cost
from benchmarks.training_report import DEFINITIONS, lines, table
from benchmarks.training_setting import Setting, TrainingBenchmark, make_setting
from mixmo_fast.config.load import to_yaml
from mixmo_fast.errors import MixmoError
from mixmo_fast.files import write_text
from mixmo_fast.networks.flop import FLOP_PER_MAC, PASSES_PER_STEP
from mixmo_fast.networks.work import forward_macs
from mixmo_fast.training.memory import release
from mixmo_fast.training.options import set_switches
from mixmo_fast.training.runlog import environment

_PIECE_SECONDS = 0.3  # at most

Numbers = dict[str, Any]


def measure(
    options: TrainingBenchmark,
    say: Callable[[str], None] = lambda _: None,
    save: Callable[[Numbers], None] = lambda _: None,
) -> Numbers:
    """Measures, and returns what is written as JSON.

    Args:
        options: What.
        say: Is told how far it is.
        save: Gets the result so far, after each part.

    Raises:
        MixmoError: On what cannot be measured, before anything is.
    """
    setting = make_setting(options)
    device, how = setting.device, setting.how
    set_switches(how, device)
    result = _without_numbers(options, setting)
    data = RandomData(setting.config, device)
    batch = data.frozen(how.precision.image_dtype)

    def part(name: str, work: Callable[[], Numbers]) -> None:
        say(f"{name} ...")
        set_switches(how, device)
        try:
            result[name] = work()
        except Exception as error:  # what was measured before is worth more than this part
            result[name] = {"error": one_line(error)}
        release(device)
        _finish(result, device, save)

    racers, failed = prepare(setting.chosen, batch, device, say)
    if DEFAULT in racers:
        result["first_step_after_seconds"] = racers[DEFAULT].first_step_at
    for number in range(options.repetitions):
        say(f"round {number + 1} of {options.repetitions}")
        _raise_peaks(result, setting, _piece(options))  # in each round: on a busy machine one alone would be too low
        race_round(racers, failed, options.seconds, options.rows, say)
        result["contestants"] = _contestants(setting.chosen, racers, failed, result)
        result["ratios"] = _ratios(result["contestants"])
        _finish(result, device, save)
    for name in racers.keys() - {DEFAULT, REFERENCE}:
        del racers[name]
    release(device)
    peaks = (f"{name} {peak / 1e12:.3g}" for name, peak in result["matrix_peak"].items())
    say(f"the fastest matrix products, TFLOP/s: {', '.join(peaks)}")
    turns = options.repetitions, options.seconds
    part("data", lambda: data_cost(_needed(racers, DEFAULT), data, *turns))
    if options.end_to_end:
        part(
            "end_to_end",
            lambda: end_to_end(_needed(racers, DEFAULT), _needed(racers, REFERENCE), data, options.workers, *turns),
        )
    racers.pop(REFERENCE, None)
    release(device)
    if options.ceiling:
        part("ceiling", lambda: _ceiling(result, setting, _piece(options)))
    if options.stem and options.members > 1:
        part("stem", lambda: stem_cost(setting.config, batch, how, setting.compiles, _piece(options)))
    part("idle", lambda: idle_share(_needed(racers, DEFAULT)))  # last, since profilers have been known to crash
    return result


def _without_numbers(options: TrainingBenchmark, setting: Setting) -> Numbers:
    """The result before anything was measured."""
    return {
        "network": options.network,
        "members": options.members,
        "rows": options.rows,
        "parameters": sum(parameter.numel() for parameter in setting.shapes.parameters()),
        "macs_per_row": forward_macs(setting.shapes, setting.info.height, setting.info.width),
        "images": f"random bytes in the shape of {setting.info.title}",
        "repetitions": options.repetitions,
        "seconds": options.seconds,
        "contestants": {},
        "ratios": {},
        "same_as": setting.same_as,
        "first_step_after_seconds": None,
        **dict.fromkeys(("data", "end_to_end", "ceiling", "stem", "idle", "peak_memory_bytes")),
        "matrix_peak": {},
        "matrix_peak_timed": {},
        "definitions": {**DEFINITIONS, **{one.name: WORDS[one.name] for one in setting.chosen}},
        "config": to_yaml(setting.config),
        **environment(setting.device),
    }


def _raise_peaks(result: Numbers, setting: Setting, seconds: float) -> None:
    """Measures the peak of each number format once more, and keeps the best."""
    set_switches(setting.how, setting.device)
    peaks, timed = result["matrix_peak"], result["matrix_peak_timed"]
    for name, precision in {one.precision.name: one.precision for one in setting.chosen}.items():
        found = matrix_peak(precision, setting.device, seconds)
        peaks[name], timed[name] = max((peaks.get(name, 0.0), timed.get(name)), found, key=lambda one: one[0])
    release(setting.device)


def _contestants(
    chosen: list[Opponent], racers: dict[str, Racer], failed: dict[str, str], result: Numbers
) -> dict[str, Numbers]:
    row_flop = FLOP_PER_MAC * PASSES_PER_STEP * result["macs_per_row"]
    return {
        one.name: {"error": failed[one.name]}
        if one.name in failed
        else racers[one.name].numbers(result["rows"], row_flop, result["matrix_peak"][one.precision.name])
        for one in chosen
    }


def _ratios(contestants: dict[str, Numbers]) -> dict[str, float]:
    """The default's median over each other one's: {"default/eager_fp32_nchw": ...}."""
    rates = {name: one["rows_per_second"] for name, one in contestants.items() if "error" not in one}
    if DEFAULT not in rates:
        return {}
    return {f"{DEFAULT}/{name}": rates[DEFAULT] / rate for name, rate in rates.items() if name != DEFAULT}


def _needed(racers: dict[str, Racer], name: str) -> Racer:
    if name not in racers:
        raise MixmoError(f"needs the contestant {name}")
    return racers[name]


def _ceiling(result: Numbers, setting: Setting, seconds: float) -> Numbers:
    layers = convolutions(setting.shapes, result["rows"], setting.info.height, setting.info.width)
    numbers = convolution_ceiling(layers, result["rows"], setting.how.precision, setting.device, seconds)
    rate = result["contestants"].get(DEFAULT, {}).get("rows_per_second")
    return {"share_of_ceiling": rate / numbers["rows_per_second"] if rate else None, **numbers}


def _piece(options: TrainingBenchmark) -> float:
    """Seconds for a small piece of work: a matrix product, a convolution, a stem."""
    return min(_PIECE_SECONDS, options.seconds)


def _finish(result: Numbers, device: torch.device, save: Callable[[Numbers], None]) -> None:
    """Saves the result so far, on a CPU with the process's memory."""
    if device.type == "cpu":
        unit = 1 if sys.platform == "darwin" else 1024
        result["peak_memory_bytes"] = unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    save(result)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures, prints and writes what the command line asks for."""
    try:
        _run(_parser().parse_args(arguments))
    except MixmoError as error:
        print(f"benchmarks.training: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(2)


def _parser() -> argparse.ArgumentParser:
    def refuse(message: str) -> NoReturn:
        raise MixmoError(message)

    parser = argparse.ArgumentParser(prog="python -m benchmarks.training", description=__doc__.split("\n")[0])
    parser.error = refuse  # one line, as everywhere
    parser.add_argument("--network", default="wrn-16-2", help="wrn-D-K or res18-W")
    parser.add_argument("--members", type=int, default=2)
    parser.add_argument("--rows", type=int, default=64)
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--precision", default="auto", help="of the default step")
    parser.add_argument("--repetitions", type=int, default=7, help="turns of each contestant")
    parser.add_argument("--seconds", type=float, default=2.0, help="of each turn, at least")
    parser.add_argument("--contestants", help="names, separated by commas; default: all")
    parser.add_argument("--workers", type=int, default=0, help="processes of the reference's pipeline; 0: in this one")
    parser.add_argument("--no-compile", dest="compile", action="store_false", help="compile nothing")
    parser.add_argument("--no-ceiling", dest="ceiling", action="store_false", help="do not time single convolutions")
    parser.add_argument("--no-stem", dest="stem", action="store_false", help="do not time the encoders by themselves")
    parser.add_argument(
        "--no-end-to-end", dest="end_to_end", action="store_false", help="do not load as the authors do"
    )
    parser.add_argument(
        "--cache",
        type=Path,
        help="folder of compiled kernels; without it each run compiles all, so that its times count",
    )
    parser.add_argument("--json", type=Path, required=True, help="where the result goes")
    parser.add_argument("--plot", type=Path, help="picture to draw")
    return parser


def compile_caches(folder: Path) -> dict[str, str]:
    """Environment variables that have torch's compilers keep their work in this folder."""
    return {"TORCHINDUCTOR_CACHE_DIR": str(folder / "inductor"), "TRITON_CACHE_DIR": str(folder / "triton")}


def _run(arguments: argparse.Namespace) -> None:
    values = vars(arguments)
    path, plot, cache = (values.pop(name) for name in ("json", "plot", "cache"))
    if plot is not None:
        from mixmo_fast.report.drawing import check_picture  # matplotlib takes a second to import

        check_picture(plot)
    console = Console(width=160)
    with (
        # Of this run alone: what an earlier one compiled would make compiling look fast.
        tempfile.TemporaryDirectory(prefix="mixmo-fast-", ignore_cleanup_errors=True) as empty,
        patch.dict(os.environ, compile_caches(cache or Path(empty))),
    ):
        result = measure(
            TrainingBenchmark(**values),
            console.print,
            lambda so_far: write_text(path, json.dumps(so_far, indent=1) + "\n"),
        )
    console.print(table(result))
    for line in lines(result):
        console.print(line)
    if plot is not None:
        from benchmarks.training_chart import plot_training  # matplotlib takes a second to import

        plot_training(result, plot)


if __name__ == "__main__":
    main()
