"""`report.html` over many runs: the paper's tables with our numbers, learning curves, and what accuracy costs.

It is one file that opens from disk; where a run has a page of its own, the table of runs leads there.
"""

from dataclasses import dataclass
from pathlib import Path

from mixmo_fast.report import comparison_text
from mixmo_fast.report.compared import ConfigurationResult, Results, labels_of
from mixmo_fast.report.comparison_figures import beside_published, curves_of
from mixmo_fast.report.cost_figures import against_cost, against_diversity
from mixmo_fast.report.drawing import Plot
from mixmo_fast.report.page import render
from mixmo_fast.report.words import listing
from mixmo_fast.runfolder.names import PAGE


@dataclass(frozen=True)
class PaperTable:
    """A table of the paper, as far as there are numbers.

    Attributes:
        title: Its title.
        rows: Its rows, each with a name that is no other row's.
        columns: The page's columns, each with whether it is a number; remarks stand in the first of them.
        is_by_name: Whether each row is named by its configuration, which then has no column of its own.
        overall: Figures of all its rows.
        curves: Learning curves, a figure a row.
    """

    title: str
    rows: tuple[tuple[str, ConfigurationResult], ...]
    columns: tuple[tuple[str, bool], ...]
    is_by_name: bool
    overall: tuple[Plot, ...]
    curves: tuple[Plot, ...]


def comparison_page(results: Results, out: Path, command: str) -> str:
    """The whole page; the same results make the same bytes.

    Args:
        results: Their folders are relative to `out`.
        out: Where the page will be; runs' own pages are looked for from there.
        command: What writes it anew.
    """
    devices = list(dict.fromkeys(device for row in results.configurations for device in row.devices))
    lead = comparison_text.summary_of(results) + ([f"Trained on {listing(devices)}."] if devices else [])
    pages = {run.folder: f"{run.folder}/{PAGE}" for run in results.runs}
    return render(
        "comparison.html",
        title="Results of the runs",
        lead=[" ".join(lead)],
        results=results,
        tables=[_table(title, rows, results) for title, rows in results.tables],
        pages={folder: page for folder, page in pages.items() if (out / page).is_file()},
        command=command,
        say=comparison_text,
    )


def _table(title: str, rows: tuple[ConfigurationResult, ...], results: Results) -> PaperTable:
    method, *scores, _remarks, configuration = comparison_text.table_heads(results, rows)
    labels = labels_of(rows)
    is_by_name = labels == [row.name for row in rows]
    columns = (configuration, *scores) if is_by_name else (method, *scores, configuration)
    overall = (beside_published(rows), against_cost(rows, results.is_on_gpus), against_diversity(rows))
    named = tuple(zip(labels, rows, strict=True))
    curves = (curves_of(row, label) for label, row in named)
    return PaperTable(title, named, columns, is_by_name, tuple(filter(None, overall)), tuple(filter(None, curves)))
