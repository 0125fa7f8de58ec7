"""The training benchmark in words: what each number means, a table, and a few lines below it."""

from collections.abc import Mapping
from typing import Any

from rich.table import Table

from benchmarks.opponents import REFERENCE

DEFINITIONS = {
    "rows_per_second": "rows of network input (M images each) in a whole training step: forward, loss, backward and "
    "update, on one batch that lies on the device; median of the turns",
    "step_ms": "milliseconds of such a step; median of the turns",
    "first_steps_seconds": "the first steps (6 on CUDA, 3 on a CPU): compiling, choosing algorithms, capturing a graph",
    "first_step_after_seconds": "from the start of the process to the end of the default's first step: imports, the "
    "network, and compiling, which --cache may have spared it; null where the system does not tell",
    "compile_and_capture_seconds": "what the first steps took beyond as many later ones; torch keeps compiled kernels "
    "for the run, so that a contestant whose code another has compiled before compiles less",
    "mfu": "2 FLOP x 3 passes x multiply-accumulates of a row's forward pass x rows a second, over matrix_peak of the "
    "contestant's number format",
    "matrix_peak": "FLOP a second of the fastest large square matrix product, as such or as a 1x1 convolution: "
    "medians, the best of all sizes and rounds",
    "timed": "how a small piece of work was timed: replays of a CUDA graph of many calls; launches, where none could "
    "be captured, so that Python's time is in it; calls, on a CPU",
    "macs_per_row": "multiply-accumulates of convolutions and matrix products in a row's forward pass",
    "ratios": "median rows a second of the default over the other's",
    "same_as": "contestants left out, since on this device they would do what another one does",
    "peak_memory_bytes": "of a contestant: device memory allocated at most in its first steps, weights included (null "
    "on a CPU); of the whole: main memory of the process at most (null on CUDA)",
    "data": "a default step on new batches of the resident pipeline beside one on a frozen batch; ratio: median of the "
    "ratios of neighbouring turns",
    "end_to_end": "rows a second with data: the default with the resident pipeline, and eager_fp32_nchw with the "
    "reference pipeline (torchvision and PIL, in so many worker processes; 0: in the training process)",
    "ceiling": "a step of nothing but the network's convolutions, forward and backward, each timed alone in the "
    "default's number format and its faster memory format; share_of_ceiling: the default's rows a second over that",
    "stem": "milliseconds of all encoders and their mixing, forward and backward: M convolutions (separate), one of M "
    "groups (grouped), or one with zeros between members (dense)",
    "idle": "share of the time from the first to the last kernel of some default steps in which the GPU runs none",
}


def table(result: Mapping[str, Any]) -> Table:
    """The contestants of `benchmarks.training.measure`, one a line."""
    drawn = Table(title=title(result))
    for heading in ("contestant", "rows/s", "smallest", "largest", f"x {REFERENCE}", "MFU", "compile s"):
        drawn.add_column(heading, justify="left" if heading == "contestant" else "right")
    base = result["contestants"].get(REFERENCE, {}).get("rows_per_second")
    for name, one in result["contestants"].items():
        if "error" in one:
            drawn.add_row(name, one["error"][:60])
            continue
        drawn.add_row(
            name,
            f"{one['rows_per_second']:,.1f}",
            f"{one['rows_per_second_min']:,.1f}",
            f"{one['rows_per_second_max']:,.1f}",
            f"{one['rows_per_second'] / base:.2f} x" if base else "",
            f"{100 * one['mfu']:.1f} %",
            f"{one['compile_and_capture_seconds']:.1f}",
        )
    return drawn


def title(result: Mapping[str, Any]) -> str:
    """What was measured where, in a line."""
    members = "1 member" if result["members"] == 1 else f"{result['members']} members"
    threads = "" if result["cuda"] else f", {result['threads']} threads"
    return f"{result['network']}, {members}, {result['rows']} rows a step, {result['device']}{threads}"


def lines(result: Mapping[str, Any]) -> list[str]:
    """What the table leaves out."""
    found = []
    for name, say in (("ceiling", _ceiling), ("data", _data), ("end_to_end", _end_to_end), ("stem", _stem)):
        part = result[name]
        if part is not None:
            found.append(f"{name}: {part['error']}" if "error" in part else say(part))
    idle = result["idle"] or {}
    if idle.get("share") is not None:
        found.append(f"the GPU is idle for {100 * idle['share']:.1f} % of a default step")
    found += [f"{name} is left out: it would do what {other} does" for name, other in result["same_as"].items()]
    return found


def _ceiling(part: Mapping[str, Any]) -> str:
    share = part["share_of_ceiling"]
    reached = "" if share is None else f"; the default reaches {100 * share:.1f} % of that"
    launched = sum(layer.get("timed") == "launches" for layer in part["layers"])
    launches = f" ({launched} of the kinds with launches)" if launched else ""
    return (
        f"its {part['convolutions']} convolutions alone allow {part['rows_per_second']:,.1f} rows/s{launches}{reached}"
    )


def _data(part: Mapping[str, Any]) -> str:
    times = f"{part['step_ms_new']:.2f} ms on new batches, {part['step_ms_frozen']:.2f} ms on a frozen one"
    return f"a default step takes {times}: ratio {part['ratio']:.3f}"


def _end_to_end(part: Mapping[str, Any]) -> str:
    ours, theirs = part["default"]["rows_per_second"], part[REFERENCE]["rows_per_second"]
    return f"with data: default {ours:,.1f} rows/s, {REFERENCE} {theirs:,.1f} rows/s: {part['ratio']:.2f} x"


def _stem(part: Mapping[str, Any]) -> str:
    return "encoders and mixing: " + "; ".join(
        f"{stem} {', '.join(_stem_time(of, way) for way in ('eager', 'compiled') if of[f'{way}_ms'] is not None)}"
        for stem, of in part.items()
    )


def _stem_time(of: Mapping[str, Any], way: str) -> str:
    launches = " with launches" if of.get(f"{way}_timed") == "launches" else ""
    return f"{of[f'{way}_ms']:.3f} ms {way}{launches}"
