"""The GPU suite in a line a part, each number beside what is expected of it."""

from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from benchmarks.opponents import DEFAULT

_RATE = "default rows/s"
_OVER_EAGER = "default/eager_bf16_channels_last"
_END_TO_END = "end to end"
_DATA = "new/frozen data"
_START = "first step"


@dataclass(frozen=True)
class Goal:
    """What a number has to reach.

    Attributes:
        parts: Whose number; a pattern of names.
        device: Is in the name of the device; empty: on any.
        number: Which.
        must: The least that is good enough; where less is better, the most.
        goal: What is hoped for, or None.
        less_is_better: Whether it is.
    """

    parts: str
    device: str
    number: str
    must: float
    goal: float | None = None
    less_is_better: bool = False

    def verdict(self, value: float) -> str:
        """Whether a value reaches it, in words."""
        named = [("at most" if self.less_is_better else "must", self.must), ("goal", self.goal)]
        return "; ".join(
            f"{name} {bound:,g}: {'reached' if self._reaches(value, bound) else 'missed'}"
            for name, bound in named
            if bound is not None
        )

    def _reaches(self, value: float, bound: float) -> bool:
        return value <= bound if self.less_is_better else value >= bound


GOALS = (
    Goal("training_wrn-28-10_m2_b64*", "H100", _RATE, 8_000, 10_000),
    Goal("training_wrn-28-10_m2_b64*", "H200", _RATE, 9_000, 11_000),
    Goal("training_res18-1_m2_b100", "H100", _RATE, 50_000, 80_000),
    Goal("training_res18-2_m2_b100", "H100", _RATE, 19_000, 26_000),
    Goal("training_res18-3_m2_b100", "H100", _RATE, 9_500, 13_000),
    Goal("training_*", "", _OVER_EAGER, 1.3),
    Goal("training_*", "", _END_TO_END, 10),
    Goal("training_*", "", _DATA, 1.02, less_is_better=True),
    Goal("cold_start", "", _START, 90, less_is_better=True),
)


def summary(states: Mapping[str, Any], out: Path, stamp: Mapping[str, str]) -> list[str]:
    """One line a part: what it found, or why it found nothing.

    Args:
        states: From `run_suite`.
        out: Where the logs are.
        stamp: Of the code and the device that count.
    """
    lines = []
    for name, state in states.items():
        result = state.get("result")
        found = "; ".join(_words(name, result)) if result else ""
        if name == "tests" and (out / "tests.log").is_file():
            found = (out / "tests.log").read_text().strip().rsplit("\n", 1)[-1].strip("= ")
        marks = [] if state["state"] == "finished" else [f"{state['state']}, see {out / name}.log"]
        marks += [f"of other {key}: {state[key]}" for key, value in stamp.items() if state.get(key, value) != value]
        lines.append(f"{name}: {found or 'nothing'}" + "".join(f" [{mark}]" for mark in marks))
    return lines


def _words(name: str, result: Mapping[str, Any]) -> list[str]:
    if name.startswith("fashion_mnist"):
        return [
            f"top-1 {100 * result['last']['top1']:.2f} % after {result['epochs']} epochs",
            f"{result['rows_per_second']:,.0f} rows/s, {result['precision']}, {result['device']}",
        ]
    if name.startswith("pipelines"):
        panels = result["row_counts"].items()
        return [f"B={rows} " + ", ".join(_pipeline_words(panel["contestants"])) for rows, panel in panels]
    return _training_words(name, result)


def _training_words(name: str, result: Mapping[str, Any]) -> list[str]:
    def judged(number: str, text: str, value: float) -> str:
        fitting = [
            goal.verdict(value)
            for goal in GOALS
            if goal.number == number and fnmatch(name, goal.parts) and goal.device in result.get("device", "")
        ]
        return text.format(value) + "".join(f" ({verdict})" for verdict in fitting)

    words = []
    for contestant, one in result["contestants"].items():
        if "error" in one:
            words.append(f"{contestant} failed")
            continue
        rate = judged(_RATE if contestant == DEFAULT else "", "{:,.0f} rows/s", one["rows_per_second"])
        words.append(f"{contestant} {rate}, MFU {100 * one['mfu']:.0f} %")
    for part, key, number, text in (
        ("ratios", _OVER_EAGER, _OVER_EAGER, "{:.2f} x eager_bf16_channels_last"),
        ("data", "ratio", _DATA, "new/frozen data {:.3f}"),
        ("ceiling", "share_of_ceiling", "", "{:.0%} of the convolutions' ceiling"),
        ("end_to_end", "ratio", _END_TO_END, "end to end {:.1f} x the reference"),
        ("idle", "share", "", "idle {:.1%} of a step"),
    ):
        found = result.get(part) or {}
        if found.get(key) is not None:
            words.append(judged(number, text, found[key]))
        elif "error" in found:
            words.append(f"{part} failed")
    start = result.get("first_step_after_seconds")
    if start is not None:
        words.append(judged(_START, "first step after {:.0f} s", start))
    return words


def _pipeline_words(contestants: Mapping[str, Any]) -> list[str]:
    return [
        f"{name} {one['rows_per_second']:,.0f} rows/s"
        + (f" (step new/frozen {one['step_ratio']:.3f})" if "step_ratio" in one else "")
        for name, one in contestants.items()
    ]
