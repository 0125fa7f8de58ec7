"""`report.html` over many runs: the paper's tables with our numbers, learning curves, and what accuracy costs.

It is one file that opens from disk; where a run has a page of its own, the table of runs leads there.
"""

from collections.abc import Sequence
from pathlib import Path

from mixmo_fast.report.compared import ConfigurationResult, Results, SeedResult
from mixmo_fast.report.comparison_figures import (
    against_cost,
    against_diversity,
    beside_published,
    curves_of,
    labels_of,
)
from mixmo_fast.report.comparison_text import (
    difference_text,
    explanation,
    failures,
    first_cells,
    hours_head,
    hours_text,
    number_text,
    percent_text,
    published_text,
    seeds_text,
    summary_of,
    table_heads,
)
from mixmo_fast.report.page import (
    Cell,
    Column,
    Html,
    KeyNumber,
    Section,
    cards,
    code,
    columns,
    document,
    folded,
    paragraph,
    table,
)
from mixmo_fast.report.run_sections import drawn
from mixmo_fast.report.words import UNKNOWN, decimal, listing, percent, ratio_of_errors, whole
from mixmo_fast.runfolder.names import PAGE

_CURVES_SHOWN = 12  # more of them in one table are folded away


def comparison_page(results: Results, out: Path, command: str) -> str:
    """The whole page; the same results make the same bytes.

    Args:
        results: Their folders are relative to `out`.
        out: Where the page will be; runs' own pages are looked for from there.
        command: What writes it anew.
    """
    devices = list(dict.fromkeys(device for row in results.configurations for device in row.devices))
    lead = summary_of(results) + ([f"Trained on {listing(devices)}."] if devices else [])
    sections = [Section("overview", "Overview", (_cards(results), paragraph(explanation(results))))]
    for number, (title, rows) in enumerate(results.tables, start=1):
        sections.append(Section(f"table-{number}", title, _table(title, rows, results)))
    sections += [
        Section("runs", "Each run", (_runs(results, out),)),
        Section("failed", "Failed", tuple(paragraph(line) for line in failures(results))),
        Section("left-out", "Left out", tuple(paragraph(f"{line}.") for line in results.left_out)),
        Section("anew", "How to write this page anew", (code(command, "command"), _files())),
    ]
    return document("Results of the runs", [" ".join(lead)], sections)


def _cards(results: Results) -> Html:
    runs = results.runs
    done = [run for run in runs if run.status == "complete"]
    numbers = [KeyNumber("Complete runs", f"{len(done)} of {len(runs)}", "Of those that were planned or found.")]
    comparable = [row for row in results.configurations if row.difference is not None and row.is_faithful]
    if comparable:
        near = [row for row in comparable if row.difference >= 0]
        says = "Configurations at full length whose mean best-on-test top-1 is inside the published range or above it."
        numbers.append(KeyNumber("Published reached", f"{len(near)} of {len(comparable)}", says))
        worst = min(comparable, key=lambda row: row.difference)
        says = f"The lowest difference to the published, in percentage points: {worst.name}."
        numbers.append(KeyNumber("Furthest below", difference_text(worst.difference), says))
    hours = [run.device_hours for run in runs if run.device_hours is not None]
    if hours:
        says = "Training time of all runs so far, times GPUs or processes; evaluation excluded."
        numbers.append(KeyNumber(hours_head(results), hours_text(sum(hours)), says))
    shortened = sum(row.epochs < row.full_epochs for row in results.configurations)
    if shortened:
        says = "Configurations with a part of their schedule; their numbers are no reproduction of the published."
        numbers.append(KeyNumber("Shortened", f"{shortened} of {len(results.configurations)}", says))
    return cards(numbers)


def _table(title: str, rows: Sequence[ConfigurationResult], results: Results) -> tuple[Html, ...]:
    """A table of the paper, and its figures."""
    heads = [
        Column(head, is_number, is_name=head == "Configuration")
        for head, is_number in table_heads(results, rows)
        if head != "Remarks"  # they stand beside the methods
    ]
    parts = [table("Top-1, published and ours", heads, [_row(row) for row in rows], sortable=True)]
    overall = drawn([beside_published(rows), against_cost(rows, results.is_on_gpus), against_diversity(rows)])
    if overall:
        parts.append(columns(overall))
    curves = drawn([curves_of(row, label) for row, label in zip(rows, labels_of(rows), strict=True)])
    if curves:
        beside = columns(curves)
        parts.append(beside if len(curves) <= _CURVES_SHOWN else folded(f"{len(curves)} learning curves", beside))
    return tuple(parts)


def _row(row: ConfigurationResult) -> list[Cell]:
    first, second = first_cells(row)
    published = sum(row.published) / 2 if row.published else None
    means = [one.mean if one else None for one in (row.best_on_test, row.last, row.nll, row.ece)]
    return [
        Cell(first, marks=row.marks),
        Cell(second, row.width),
        Cell(published_text(row.published), published),
        Cell(percent_text(row.best_on_test), means[0]),
        Cell(difference_text(row.difference), row.difference),
        Cell(percent_text(row.last), means[1]),
        Cell(number_text(row.nll), means[2]),
        Cell(number_text(row.ece), means[3]),
        Cell(whole(row.rows_per_second), row.rows_per_second),
        Cell(hours_text(row.device_hours), row.device_hours),
        Cell(seeds_text(row), len(row.complete)),
        Cell(row.name),
    ]


def _runs(results: Results, out: Path) -> Html:
    """All runs, each with a link to its own page where it has one."""
    heads = [
        *(Column("Run", is_name=True), Column("Seed", True), Column("Status"), Column("Epochs", True)),
        *(Column("Best on test", True), Column("In epoch", True), Column("Last epoch", True)),
        *(Column("NLL", True), Column("ECE", True), Column("Diversity", True), Column("Rows/s", True)),
        *(Column(hours_head(results), True), Column("Device", is_name=True)),
    ]
    cells = [_run(row, seed, out) for row in results.configurations for seed in row.seeds]
    return table("All runs; those with a link have a page of their own", heads, cells, sortable=True)


def _run(row: ConfigurationResult, seed: SeedResult, out: Path) -> list[Cell]:
    link = f"{seed.folder}/{PAGE}"
    return [
        Cell(row.name, link=link if (out / link).is_file() else None),
        Cell(str(seed.seed), seed.seed),
        Cell(seed.status) if seed.status == "complete" else Cell("", marks=(seed.status,)),
        Cell(f"{seed.epoch} of {row.epochs}", seed.epoch),
        Cell(percent(seed.best_on_test), seed.best_on_test),
        Cell(UNKNOWN if seed.best_epoch is None else str(seed.best_epoch), seed.best_epoch),
        Cell(percent(seed.last), seed.last),
        Cell(decimal(seed.nll), seed.nll),
        Cell(decimal(seed.ece), seed.ece),
        Cell(ratio_of_errors(seed.diversity, row.members > 1 and seed.last is not None, 3), seed.diversity),
        Cell(whole(seed.rows_per_second), seed.rows_per_second),
        Cell(hours_text(seed.device_hours), seed.device_hours),
        Cell(seed.device or UNKNOWN),
    ]


def _files() -> Html:
    return paragraph(
        "It reads the run folders again and writes results.json (all numbers, each seed's included), results.md (the "
        "same tables as text) and this page beside each other."
    )
