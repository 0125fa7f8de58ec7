"""Thousands of inputs that try to make this program lose a file, change a number in silence, or show a traceback.

    python -m benchmarks.faults --json benchmarks/results/faults_cpu.json
    python -m benchmarks.faults --minutes 1                                      # a cut of each campaign
    python -m benchmarks.faults --only checkpoint_bytes --first 1234 --count 1   # one input again

Exits with 1 where there is a fault, naming for each kind the input that shows it again.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from benchmarks.faults.campaigns import CAMPAIGNS
from benchmarks.faults.runner import Found, make_small_run, run
from mixmo_fast.files import write_text
from mixmo_fast.training.runlog import environment

SEED = 2026


def main() -> None:
    """Runs the campaigns that were asked for, one after the other, and says what they found."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", choices=CAMPAIGNS, action="append", help="a campaign; may be given several times")
    parser.add_argument("--minutes", type=float, help="for all together; without it, every input of each")
    parser.add_argument("--seed", type=int, default=SEED, help=f"what inputs are drawn with ({SEED})")
    parser.add_argument("--first", type=int, default=0, help="number of the first input (0)")
    parser.add_argument("--count", type=int, help="inputs of each campaign")
    parser.add_argument("--json", type=Path, help="where the result goes")
    options = parser.parse_args()
    if (options.minutes is not None and options.minutes <= 0) or options.first < 0 or (options.count or 1) < 1:
        parser.error("allowed: --minutes above 0, --first at least 0, --count at least 1")
    names = options.only or list(CAMPAIGNS)
    result = {"seed": options.seed, "campaigns": {}, **environment(torch.device("cpu"))}
    console = Console(width=120)
    with tempfile.TemporaryDirectory(prefix="mixmo-fast-faults-") as temporary:
        work = Path(temporary)
        make_small_run(work)
        left, faults = 60 * (options.minutes or 1e6), 0
        for turn, name in enumerate(names):
            campaign = CAMPAIGNS[name]
            count = options.count or campaign.inputs
            numbers = range(options.first, options.first + count)
            # What one leaves of its time is everybody's who comes after it.
            its_own = left / (len(names) - turn)
            with console.status(name) as status:
                found = run(
                    campaign, work, options.seed, numbers, its_own,
                    lambda done, name=name, count=count: status.update(f"{name}: {done:,} of {count:,} inputs"),
                )  # fmt: skip
            left -= min(its_own, found.seconds)
            result["campaigns"][name] = as_dict(campaign.title, found)
            for line in in_words(name, options.seed, found):
                console.print(line, soft_wrap=True, markup=False, highlight=False)
            faults += len(found.faults)
            if options.json is not None:
                write_text(options.json, json.dumps(result, indent=1) + "\n")
    console.print(table(result["campaigns"]))
    sys.exit(1 if faults else 0)


def as_dict(title: str, found: Found) -> dict[str, Any]:
    """What is written of a campaign."""
    return {
        "title": title,
        "inputs": found.inputs,
        "distinct_faults": len(found.faults),
        "outcomes": dict(found.outcomes.most_common()),
        "faults": found.faults,
        "seconds": round(found.seconds, 1),
    }


def in_words(name: str, seed: int, found: Found) -> list[str]:
    """A line for the campaign, and two for each kind of fault."""
    outcomes = ", ".join(f"{count:,} {word}" for word, count in found.outcomes.most_common())
    lines = [f"{name}: {found.inputs:,} inputs in {found.seconds:.0f} s: {outcomes}"]
    for kind, noted in found.faults.items():
        lines.append(f"  FAULT, {noted['count']:,} times: {kind}: {noted['shown'][:200]}")
        again = f"--only {name} --seed {seed} --first {noted['first_input']} --count 1"
        lines.append(f"    python -m benchmarks.faults {again}")
    return lines


def table(campaigns: dict[str, dict[str, Any]]) -> Table:
    """A row a campaign."""
    found = Table(title="faults", title_justify="left")
    for heading in ("campaign", "inputs", "faults", "seconds", "what is tried"):
        found.add_column(heading, justify="right" if heading in ("inputs", "faults", "seconds") else "left")
    for name, of_it in campaigns.items():
        numbers = (f"{of_it['inputs']:,}", str(of_it["distinct_faults"]), f"{of_it['seconds']:,.0f}")
        found.add_row(name, *numbers, of_it["title"])
    return found


if __name__ == "__main__":
    main()
