"""The words of a comparison, and `results.md`: the paper's tables with our numbers beside the published ones."""

from collections.abc import Iterable, Sequence

from mixmo_fast.errors import printable
from mixmo_fast.report.compared import ConfigurationResult, Results, Statistic
from mixmo_fast.report.words import UNKNOWN, decimal, whole

_NOBODY = "--"  # as the paper's tables have it


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
        lines += [_line(map(_cell, table_row(row, results))) for row in rows]
        parts += [f"## {title}", "\n".join(lines)]
    for heading, items in (("Failed", failures(results)), ("Left out", results.left_out)):
        if items:
            parts += [f"## {heading}", "\n".join(f"- {_escaped(item)}" for item in items)]
    parts += ["## How to write this anew", f"```\n{command}\n```"]
    return "\n\n".join(parts) + "\n"


def summary_of(results: Results) -> list[str]:
    """What the tables are of, and how much is still to come, in a few sentences."""
    runs, comparable = results.runs, results.comparable
    sentences = [
        f"{len(results.complete)} of {len(runs)} runs of {_counted(len(results.configurations))} are complete."
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
            f"Of {_counted(len(comparable))} at full length with a published figure: {inside} inside the published "
            f"range, {above} above it, {len(comparable) - inside - above} below it."
        )
        deviations = [(one.difference, one.best_on_test.std) for one in comparable if one.best_on_test]
        within = sum(gap is not None and std is not None and abs(gap) <= std for gap, std in deviations)
        sentences.append(f"{within} differ by no more than the standard deviation of their seeds.")
    scaled = sum(one.is_shortened for one in results.configurations)
    if scaled:
        sentences.append(
            f"{_counted(scaled)} with a shortened schedule, which the rows say: those numbers are no reproduction of "
            "the published ones."
        )
    return sentences


def table_heads(results: Results, rows: Sequence[ConfigurationResult]) -> list[tuple[str, bool]]:
    """The columns of a table, each with whether it is a number; a table over several widths has one for them."""
    first = [("Subnetwork method", False), ("MSDA", False)]
    if rows[0].width is not None:
        first = [("Method", False), ("Width", True)]
    return [
        *first,
        *(("Published", True), ("Ours, best on test", True), ("Difference", True)),
        *(("Ours, last epoch", True), ("NLL", True), ("ECE", True), ("Rows/s", True)),
        *((hours_head(results), True), ("Seeds", True), ("Remarks", False), ("Configuration", False)),
    ]


def table_row(row: ConfigurationResult, results: Results) -> list[str]:
    """The cells of a row, as many as `table_heads` gives columns."""
    return [
        *first_cells(row),
        *(published_text(row.published), percent_text(row.best_on_test), difference_text(row.difference)),
        *(percent_text(row.last), number_text(row.nll), number_text(row.ece), whole(row.rows_per_second)),
        *(hours_text(row.device_hours), seeds_text(row), "; ".join(row.marks), row.name),
    ]


def first_cells(row: ConfigurationResult) -> tuple[str, str]:
    """A row's method and augmentation, or its method and width, as the paper's tables write them."""
    if row.width is not None:
        return " + ".join(part for part in (row.method, row.msda) if part) or "Vanilla", str(row.width)
    return row.method or _NOBODY, row.msda or (_NOBODY if row.method else "Vanilla")


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


def hours_head(results: Results) -> str:
    """`GPU-hours` where all runs were on GPUs."""
    return "GPU-hours" if results.is_on_gpus else "Hours"


def hours_text(hours: float | None) -> str:
    """Three digits: `0.0123`, `12.3`, `1,234`."""
    if hours is None:
        return UNKNOWN
    return f"{hours:,.0f}" if hours >= 100 else f"{hours:.3g}"


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
    cost = "GPU-hours are training time times GPUs" if results.is_on_gpus else "Hours are training time times processes"
    return (
        "Top-1 of the test set: mean and, after ±, sample standard deviation (n - 1) over the complete seeds. Best on "
        "test is the epoch with the best test top-1, which is how the paper counts; it flatters. The difference is "
        "that mean minus the nearest end of the published range, in percentage points. NLL (nats) and ECE (15 equal "
        f"bins, a fraction) are of the last epoch. Rows/s is the median training throughput. {cost}, evaluation "
        "excluded, the mean of a run."
    )


def _counted(configurations: int) -> str:
    return "1 configuration" if configurations == 1 else f"{configurations} configurations"


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _escaped(text: str) -> str:
    """What is shown as it is, without a tag."""
    return printable(text).replace("&", "&amp;").replace("<", "&lt;").replace("\\", "\\\\")


def _cell(text: str) -> str:
    return _escaped(text).replace("|", "\\|")
