"""What the free ensemble costs at inference: a MixMo beside one network of its size, and beside an ensemble of two.

    python -m benchmarks.inference --json result.json --chart result.png

Contestants answer for the same images: one network; an ensemble of two, one after the other and with their weights
stacked; a MixMo with its encoders folded once (as `predict` and `export` do) and in each call; a wider network. With
`--runs` they are trained ones, with their accuracy beside their latency. torch runs them as they are, channels_last,
and compiled; onnxruntime runs their exports. All live in this process and take turns within each setting, in another
order each time, so that whatever slows the machine slows all of them.

Shapes: N images of a call, M members.
"""

import argparse
import json
import math
import sys
import time
from collections.abc import Callable, Sequence
from functools import cache
from importlib import metadata
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from benchmarks.inference_contestants import Contestant, Field, fresh_field, run_field
from benchmarks.stopwatch import seconds_of
from mixmo_fast.compilers import can_compile
from mixmo_fast.errors import ConfigError, MixmoError
from mixmo_fast.files import write_text
from mixmo_fast.run import build
from mixmo_fast.run.network_formats import onnx_program, onnx_session, require
from mixmo_fast.training.runlog import environment

ENGINES = ("eager", "compile", "onnxruntime")
MOST_OF_FOLDED = 1.03
_FEWEST_TURNS = 7  # of each contestant, if so many are asked for

Call = Callable[[], object]
Numbers = dict[str, Any]

DEFINITIONS = {
    "latency": "milliseconds of a call that answers for `batch` images, float32, from normalised images in memory to "
    "logits; p50 and p95 over all calls of all turns, one call timed at a time",
    "ratio": "median over the rounds, in each of which all take a turn, of (p50 of the contestant's turn / p50 of the "
    "baseline's)",
    "images_per_second": "batch / p50",
    "macs": "multiply-accumulates of convolutions and matrix products for one image",
    "folded_over_single": "ratios of folded MixMos of the baseline's size over all settings; it `holds` if none is "
    f"above {MOST_OF_FOLDED}: M members then cost what one network does",
    "eager": "torch, channels_last, inference mode",
    "compile": "torch.compile of that for fixed shapes, its compiling not counted",
    "onnxruntime": "the exported network on the CPU, as many intra-op threads, which wait asleep between calls",
    "top1": "of the ensemble, on the test split; only of trained runs",
}


def main() -> None:
    """Measures, prints and writes what was found."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--json", type=Path, required=True, help="the result, rewritten after each setting")
    parser.add_argument("--chart", type=Path, help="a picture of it: .png or .svg")
    parser.add_argument("--network", default="wrn-16-2", help="wrn-D-K or res18-W")
    parser.add_argument("--wider", help="a wider network of one member; default: about twice the work")
    parser.add_argument("--members", type=int, default=2)
    parser.add_argument("--batches", default="1,8,64,512", help="images of a call")
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--engines", default=",".join(ENGINES))
    parser.add_argument("--repetitions", type=int, default=25, help="turns of each contestant in each setting, at most")
    parser.add_argument("--seconds", type=float, default=0.05, help="of a turn, at least")
    parser.add_argument("--longest", type=float, default=60.0, help="seconds of a setting after which 7 turns will do")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="cpu")
    parser.add_argument("--runs", type=Path, nargs="+", help="trained run folders instead of fresh networks")
    parser.add_argument("--data", type=Path, default=Path("data"), help="folder of data sets, for --runs")
    options = parser.parse_args()
    try:
        batches, threads = (_numbers(name, getattr(options, name)) for name in ("batches", "threads"))
        result = measure(options, batches, threads, _engines(options.engines), lambda line: print(line, flush=True))
    except MixmoError as error:
        print(f"benchmarks.inference: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(2)
    show(result, Console(width=120))
    if options.chart is not None:
        from benchmarks.inference_chart import plot_inference

        plot_inference(result, options.chart)


def measure(
    options: argparse.Namespace,
    batches: Sequence[int],
    threads: Sequence[int],
    engines: Sequence[str],
    say: Callable[[str], None] = lambda _: None,
) -> Numbers:
    """What is written as JSON.

    Args:
        options: Of the command line.
        batches: N of each setting.
        threads: Of each setting.
        engines: Some of `ENGINES`.
        say: Is told how far it is.

    Raises:
        MixmoError: On what cannot be measured.
    """
    if options.repetitions < 1 or not 0 <= options.seconds < math.inf or not options.longest >= 0:
        raise ConfigError("allowed: --repetitions at least 1, --seconds and --longest at least 0")
    device = build.choose_device(options.device)
    if "onnxruntime" in engines:
        require("onnx")
    if options.runs:
        field = run_field(options.runs, options.data, max(batches), device)
    else:
        field = fresh_field(options.network, options.wider, options.members, max(batches), device)
    result: Numbers = {
        "definitions": DEFINITIONS,
        "source": field.source,
        "baseline": field.contestants[0].name,
        "repetitions": options.repetitions,
        "seconds": options.seconds,
        "contestants": {
            one.name: {"members": one.members, "macs": one.macs}
            | ({} if one.scores is None else {"scores": one.scores.as_dict()})
            for one in field.contestants
        },
        "settings": [],
        "folded_over_single": None,
        **environment(device),
    }
    if "onnxruntime" in engines:
        result["versions"] |= {name: metadata.version(name) for name in ("onnx", "onnxscript", "onnxruntime")}
    before = torch.get_num_threads()
    try:
        for engine in engines:
            for count in threads:
                torch.set_num_threads(count)
                for batch in batches:
                    say(f"{engine}, {count} threads, batch {batch}")
                    setting = _setting(field, engine, count, batch, options, device)
                    result["settings"].append(setting)
                    result["folded_over_single"] = _folded_over_single(result["settings"], field.free)
                    write_text(options.json, json.dumps(result, indent=1) + "\n")
    finally:
        torch.set_num_threads(before)
    return result


def _setting(
    field: Field, engine: str, threads: int, batch: int, options: argparse.Namespace, device: torch.device
) -> Numbers:
    """One engine, number of threads and batch: every contestant's latencies, and the ratios to the first one."""
    setting: Numbers = {"engine": engine, "threads": threads, "batch": batch, "contestants": {}, "left_out": {}}
    images = field.images[:batch].contiguous(memory_format=torch.channels_last)
    if engine == "compile":
        torch._dynamo.reset()
    calls: dict[str, Call] = {}
    for one in field.contestants:
        why = _why_not(one, engine, device)
        if why is None:
            try:
                calls[one.name] = _call(one, engine, threads, images)
                calls[one.name]()
            except Exception as error:  # an engine may not have what a contestant needs; the others go on
                why = " ".join(str(error).split())[:200] or type(error).__name__
                calls.pop(one.name, None)
        if why is not None:
            setting["left_out"][one.name] = why
    turns: dict[str, list[list[float]]] = {name: [] for name in calls}
    order, started = list(calls), time.monotonic()
    for turn in range(options.repetitions):
        if turn >= _FEWEST_TURNS and time.monotonic() - started > options.longest:
            break
        for name in order:
            turns[name].append(_turn(calls[name], device, options.seconds))
        order = order[1:] + order[:1]
    baseline = turns.get(field.contestants[0].name)
    for name, found in turns.items():
        milliseconds = 1e3 * np.array([seconds for turn in found for seconds in turn])
        p50 = float(np.percentile(milliseconds, 50))
        setting["contestants"][name] = {
            "p50_ms": p50,
            "p95_ms": float(np.percentile(milliseconds, 95)),
            "images_per_second": 1e3 * batch / p50,
            "turns": len(found),
            "calls": len(milliseconds),
            "ratio": baseline and median(median(a) / median(b) for a, b in zip(found, baseline, strict=True)),
        }
    return setting


def _why_not(one: Contestant, engine: str, device: torch.device) -> str | None:
    if engine == "compile" and not can_compile(device):
        return "torch.compile has no compiler here"
    if engine == "onnxruntime" and device.type != "cpu":
        return "measured on the CPU alone"
    if engine == "onnxruntime" and not one.exports:
        return "its export is another contestant's"
    return None


def _call(one: Contestant, engine: str, threads: int, images: Tensor) -> Call:
    """A call of the contestant on these images."""
    if engine == "onnxruntime":
        session = onnx_session(_exported(one, images.shape[1:]), threads)
        pixels = {"images": images.contiguous().numpy()}
        return lambda: session.run(None, pixels)
    forward = torch.compile(one.network, dynamic=False) if engine == "compile" else one.network
    context = torch.no_grad if engine == "compile" else torch.inference_mode

    def call() -> Tensor:
        with context():
            return forward(images)

    return call


@cache
def _exported(one: Contestant, shape: torch.Size) -> bytes:
    """A contestant as ONNX, for any number of images of that shape."""
    return onnx_program(one.network, torch.zeros(2, *shape), ("logits",)).model_proto.SerializeToString()


def _turn(call: Call, device: torch.device, seconds: float) -> list[float]:
    """Seconds of each call, of so many that they last so long."""
    found = [seconds_of(call, device)]
    while sum(found) < seconds:
        found.append(seconds_of(call, device))
    return found


def _folded_over_single(settings: Sequence[Numbers], free: Sequence[str]) -> Numbers | None:
    """Whether folded MixMos cost what the single network does in every setting so far; None: they were in none."""
    contestants = [one for setting in settings for name, one in setting["contestants"].items() if name in free]
    found = [one["ratio"] for one in contestants]
    ratios = [ratio for ratio in found if ratio is not None]
    if not ratios:
        return None
    return {"median": median(ratios), "largest": max(ratios), "holds": max(ratios) <= MOST_OF_FOLDED}


def show(result: Numbers, console: Console) -> None:
    """Prints the median latencies and the ratios."""
    console.print(result["source"], markup=False)
    names = list(result["contestants"])
    table = Table("engine", "threads", "batch", *names, title="p50, ms (times the first)", title_justify="left")
    for setting in result["settings"]:
        cells = []
        for name in names:
            one = setting["contestants"].get(name)
            cells.append("" if one is None else f"{one['p50_ms']:.4g} ({one['ratio'] or math.nan:.2f})")
        table.add_row(setting["engine"], str(setting["threads"]), str(setting["batch"]), *cells)
    console.print(table)
    for name, one in result["contestants"].items():
        score = f", top-1 {100 * one['scores']['top1']:.2f} %" if "scores" in one else ""
        console.print(f"{name}: {one['macs'] / 1e6:,.1f} million multiply-accumulates an image{score}", markup=False)
    costs = result["folded_over_single"]
    if costs is not None:
        words = f"median {costs['median']:.3f}, largest {costs['largest']:.3f}"
        holds = "holds" if costs["holds"] else "does not hold"
        console.print(f"folded / single: {words}; at most {MOST_OF_FOLDED} in every setting {holds}", markup=False)


def _numbers(name: str, text: str) -> list[int]:
    words = [word.strip() for word in text.split(",")]
    if not all(word.isdecimal() and int(word) for word in words):
        raise ConfigError(f"--{name}: found {text!r}, allowed: whole numbers above 0, separated by commas")
    return [int(word) for word in words]


def _engines(text: str) -> list[str]:
    words = [word.strip() for word in text.split(",")]
    for word in words:
        if word not in ENGINES:
            raise ConfigError(f"--engines: found {word!r}, allowed: {', '.join(ENGINES)}")
    return words


if __name__ == "__main__":
    main()
