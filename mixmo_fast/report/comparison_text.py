"""The words of a comparison, and `results.md`: the paper's tables with our numbers beside the published ones."""

import re
from collections.abc import Iterable, Sequence

from mixmo_fast.errors import printable
from mixmo_fast.report.compared import SINGLE_NETWORK, ConfigurationResult, Results, Statistic, differ_in_epochs
from mixmo_fast.report.words import UNKNOWN, counted, decimal, whole
from mixmo_fast.training.progress import duration

# What Markdown would read as more than text: underscores within a word, as configurations have them, are none of it,
# an address that would become a link is.
_MARKDOWN = re.compile(r"[\\`*~\[\]]|(?<![^\W_])_|_(?![^\W_])|:(?=//)|(?<=www)\.", re.IGNORECASE)
_BEGINS_A_BLOCK = re.compile(r"^(\d*)([#>+=.)-])")  # a heading, a quotation, a list


def as_markdown(results: Results, command: str) -> str:
    """`results.md`; rows and titles are those of the paper's tables.

    Args:
        results: What the runs reached.
        command: What writes this file anew.
    """
    parts = ["# Results", " ".join(summary_of(results)), explanation(results)]
    for title, rows in results.tables:
        heads = table_heads(results, rows)
        lines = [_line([head for head, _ in heads]), _line(["---:" if number else "---" for _, number in heads])]
        lines += [_line(map(_cell, cells)) for cells in table_rows(rows)]
        parts += [f"## {_escaped(title)}", "\n".join(lines)]
    for heading, items in (("Failed", failures(results)), ("Left out", results.left_out)):
        if items:
            parts += [f"## {heading}", "\n".join(f"- {_item(item)}" for item in items)]
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", command)), default=0))
    parts += ["## How to write this anew", f"{fence}\n{printable(command)}\n{fence}"]
    return "\n\n".join(parts) + "\n"


def summary_of(results: Results) -> list[str]:
    """What the tables are of, and how much is still to come, in a few sentences."""
    runs, comparable = results.runs, results.comparable
    sentences = [
        f"{len(results.complete)} of {len(runs)} runs of {counted(len(results.configurations), 'configuration')} are "
        "complete."
    ]
    rest = [
        (status, sum(run.status == status for run in runs)) for status in ("running", "stopped", "waiting", "failed")
    ]
    if any(number for _, number in rest):
        sentences.append(f"Of the others {', '.join(f'{number} {status}' for status, number in rest if number)}.")
    if comparable:
        inside = sum(one.difference == 0 for one in comparable)
        above = sum(one.difference is not None and one.difference > 0 for one in comparable)
        sentences.append(
            f"Of {counted(len(comparable), 'configuration')} at full length with a published figure: {inside} inside "
            f"the published range, {above} above it, {len(comparable) - inside - above} below it."
        )
        deviations = [(one.difference, one.best_on_test.std) for one in comparable if one.best_on_test]
        within = sum(gap is not None and std is not None and abs(gap) <= std for gap, std in deviations)
        sentences.append(f"{within} differ by no more than the standard deviation of their seeds.")
    scaled = sum(one.is_shortened for one in results.configurations)
    if scaled:
        sentences.append(
            f"{counted(scaled, 'configuration')} with a shortened schedule, which the rows say: those numbers are no "
            "reproduction of the published ones."
        )
    return sentences


def has_published(rows: Iterable[ConfigurationResult]) -> bool:
    """Whether a table has columns of published figures: one of its rows has one."""
    return any(row.published for row in rows)


def table_heads(results: Results, rows: Sequence[ConfigurationResult]) -> list[tuple[str, bool]]:
    """The columns of a table, each with whether it is a number: scores first, names that are long last."""
    return [
        *(("Method", False), ("Ours, best on test", True), ("Ours, last epoch", True)),
        *((("Published", True), ("Difference", True)) if has_published(rows) else ()),
        *(("NLL", True), ("ECE", True)),
        *((("Epochs", True),) if differ_in_epochs(rows) else ()),
        ("Seeds", True),
        *(("Rows/s", True), (time_head(results), True), ("Remarks", False), ("Configuration", False)),
    ]


def table_rows(rows: Sequence[ConfigurationResult]) -> list[list[str]]:
    """The cells of each row, as many as `table_heads` gives columns."""
    published, epochs = has_published(rows), differ_in_epochs(rows)
    return [
        [
            *(row.label, percent_text(row.best_on_test), percent_text(row.last)),
            *((published_text(row.published), difference_text(row.difference)) if published else ()),
            *(number_text(row.nll), number_text(row.ece)),
            *((str(row.epochs),) if epochs else ()),
            *(seeds_text(row), whole(row.rows_per_second), time_text(row.device_seconds)),
            *("; ".join(row.marks), row.name),
        ]
        for row in rows
    ]


def first_cells(row: ConfigurationResult) -> tuple[str, str]:
    """A row's method and augmentation, or both in one and the width: two cells."""
    if row.width is not None:
        return row.method_label, str(row.width)
    return row.method or SINGLE_NETWORK, row.msda or UNKNOWN


def published_text(published: tuple[float, float] | None) -> str:
    """`96.37 %`, or a range as `85.52 - 85.59 %`."""
    if published is None:
        return UNKNOWN
    return " - ".join(f"{100 * top1:.2f}" for top1 in dict.fromkeys(published)) + " %"


def percent_text(found: Statistic | None) -> str:
    """`85.55 ± 0.12 %`; without the deviation where there is a single seed."""
    if found is None:
        return UNKNOWN
    deviation = "" if found.std is None else f" ± {100 * found.std:.2f}"
    return f"{100 * found.mean:.2f}{deviation} %"


def number_text(found: Statistic | None) -> str:
    """A mean as `0.2398`."""
    return decimal(found.mean if found else None)


def difference_text(difference: float | None) -> str:
    """In percentage points: `+0.21`, `-0.40`, or `inside` the published range."""
    if difference is None:
        return UNKNOWN
    return "inside" if difference == 0 else f"{100 * difference:+.2f}"


def time_head(results: Results) -> str:
    """`GPU time` where all runs were on GPUs."""
    return "GPU time" if results.is_on_gpus else "Time"


def time_text(seconds: float | None) -> str:
    """As everywhere: `3 min 05 s`."""
    return UNKNOWN if seconds is None else duration(seconds)


def seeds_text(row: ConfigurationResult) -> str:
    """`3`, or `2 of 3` where not all are complete."""
    done, planned = len(row.complete), len(row.seeds)
    return str(done) if done == planned else f"{done} of {planned}"


def failures(results: Results) -> list[str]:
    """A line for each run that failed."""
    return [
        f"{row.name}, seed {seed.seed}: {seed.error}"
        for row in results.configurations
        for seed in row.seeds
        if seed.error is not None
    ]


def explanation(results: Results) -> str:
    """What the columns mean."""
    times = "GPUs" if results.is_on_gpus else "processes"
    difference = "The difference is that mean minus the nearest end of the published range, in percentage points. "
    return (
        "Top-1 of the test set: mean and, after ±, sample standard deviation (n - 1) over the complete seeds. Best on "
        "test is the epoch with the best test top-1, which is how the paper counts; it flatters. "
        f"{difference if has_published(results.configurations) else ''}"
        "NLL (nats) and ECE (15 equal bins, a fraction) are of the last epoch. Rows/s is the median training "
        f"throughput. {time_head(results)} is that of training one run, times {times}, evaluation excluded."
    )


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _escaped(text: str) -> str:
    """What Markdown shows as it is: no tag, no link, nothing set in another way."""
    return _MARKDOWN.sub(r"\\\g<0>", printable(text)).replace("&", "&amp;").replace("<", "&lt;")


def _cell(text: str) -> str:
    return _escaped(text).replace("|", "\\|")


def _item(text: str) -> str:
    return _BEGINS_A_BLOCK.sub(r"\1\\\2", _escaped(text))
