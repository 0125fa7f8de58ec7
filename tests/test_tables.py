"""Every table that a command prints is whole on a terminal of any usual width."""

import io
import json
from types import SimpleNamespace

import pytest
import torch
from places import REPOSITORY
from rich.console import Console
from rich.text import Text
from sample_reproduction import finish, reproduction, row_of

from benchmarks.command import _table as benchmark_table
from mixmo_fast.cli.evaluation_tables import _selective_table, inspection_tables
from mixmo_fast.config.paper import PAPER_RUNS
from mixmo_fast.config.schema import ScheduleConfig
from mixmo_fast.doctor.examine import findings_table
from mixmo_fast.doctor.findings import Finding
from mixmo_fast.evaluation.metrics import evaluate_logits
from mixmo_fast.evaluation.robustness import Robustness, robustness_table
from mixmo_fast.evaluation.selective import select
from mixmo_fast.evaluation.table import scores_table
from mixmo_fast.evaluation.temperature import scale_two_fold
from mixmo_fast.networks.anatomy import LayerActivity
from mixmo_fast.reproduce.command import _missing_table
from mixmo_fast.reproduce.jobs import Outcome
from mixmo_fast.reproduce.preview import preview_table
from mixmo_fast.reproduce.results import collect
from mixmo_fast.reproduce.run_state import RunState
from mixmo_fast.reproduce.tables import results_tables, states_table
from mixmo_fast.runfolder.evaluated import MembersUsed
from mixmo_fast.tables import Column, Sheet, fitted, print_table, shortened

NAMES = list(PAPER_RUNS)


def states() -> Sheet:
    return states_table(
        [
            RunState(
                *(name, seed, "running", 123, 1200),
                loss=1.2345,
                last_top1=0.8555,
                best_top1=0.8577,
                rows_per_second=12345.6,
                seconds_per_epoch=123.4,
            )
            for name in NAMES
            for seed in (1, 2, 1000)
        ]
    )


def previewed(folder) -> Sheet:
    return preview_table(reproduction(folder, ("cifar100", "tiny")).runs, (), folder)


def compared(folder) -> list[Sheet]:
    for run in reproduction(folder, ("cifar100", "tiny"), scale=0.01).runs:
        rows = [row_of(epoch, 0.8 + 0.01 * run.seed, run.members) for epoch in range(1, run.epochs + 1)]
        finish(run.folder(folder), run.config, rows)
    return results_tables(collect([folder], folder))


def scores() -> list[Sheet]:
    generator = torch.Generator().manual_seed(1)
    logits, labels = torch.randn(200, 4, 10, generator=generator), torch.arange(200) % 10
    scaling = scale_two_fold(logits, labels, "logits")
    corrupted = Robustness(
        **{"source": "a/folder/of/CIFAR-10-C", "benchmark": ("gaussian_noise", "fog"), "severities": (1, 2, 3, 4, 5)},
        **{"corruptions": ("gaussian_noise", "fog"), "top1": ((0.123456,) * 5, (1.0,) * 5), "images": 10},
        **{"mean_top1": 0.56, "pooled": evaluate_logits(logits, labels), "mce": 1.23, "mce_against": "runs/single"},
    )
    return [
        scores_table(evaluate_logits(logits, labels), "digits, 200 images", "logits", scaling),
        _selective_table(select(logits.mean(1), labels)),
        robustness_table(corrupted),
    ]


def inspected() -> list[Sheet]:
    used = tuple(MembersUsed(members=number, top1=0.9, lowest=0.8, highest=0.95) for number in (1, 2, 3, 4))
    layers = tuple(
        LayerActivity(name=f"trunk.layer{number}.0.conv1", filters=160, share=(1.0, 0.5, 0.25)) for number in (1, 2, 3)
    )
    trained = SimpleNamespace(dataset=SimpleNamespace(name="tinyimagenet"), checkpoint="a/long/path/to/last.pt")
    encoders = ((0.5, 12345.678), (0.25, 3.5))
    found = SimpleNamespace(trained=trained, encoder_l1=encoders, layers=layers, used=used)
    return inspection_tables(found)


def examined() -> Sheet:
    words = "60,000 + 10,000 images of 32x32, sizes are right; " * 4
    return findings_table([Finding("machine", "shared memory", "warning", words), Finding("data", "x", "ok", words)])


def benchmarked() -> Sheet:
    return benchmark_table(json.loads((REPOSITORY / "benchmarks/results/pipelines_cpu.json").read_text()))


@pytest.fixture(scope="module")
def sheets(tmp_path_factory) -> dict[str, list[Sheet]]:
    place = tmp_path_factory.mktemp("runs")
    return {
        "status": [states()],
        "reproduce": [
            previewed(place / "asked"),
            _missing_table([Outcome(name, 3, "failed", "the loss is not finite") for name in NAMES], 81),
        ],
        "report": compared(place / "done"),
        "benchmark": [benchmarked()],
        "evaluate": scores(),
        "inspect": inspected(),
        "doctor": [examined()],
    }


COMMANDS = ("status", "reproduce", "report", "benchmark", "evaluate", "inspect", "doctor")


def printed(sheet: Sheet, width: int, terminal: bool = True, wide: bool = False) -> list[str]:
    out = io.StringIO()
    print_table(Console(file=out, width=width, force_terminal=terminal, color_system=None), sheet, wide)
    return out.getvalue().splitlines()


def column_texts(lines: list[str]) -> list[str]:
    """What stands in each column, lines of one cell joined; borders and heads included."""
    rows = [line[1:-1].replace("┃", "│").split("│") for line in lines if line[:1] in "│┃"]
    return ["\n".join(row[place].strip() for row in rows) for place in range(len(rows[0]))]


def plain(cell) -> str:
    return str(cell).strip()


@pytest.mark.parametrize("width", [60, 80, 120])
@pytest.mark.parametrize("command", COMMANDS)
def test_no_line_is_longer_than_the_terminal_and_no_number_is_cut(sheets, command, width):
    for sheet in sheets[command]:
        lines = printed(sheet, width)
        assert max(map(len, lines)) <= width
        table, missing = fitted(sheet, width)
        heads = [str(column.header) for column in table.columns]
        shown = [place for place, column in enumerate(sheet.columns) if column.head in heads]
        assert len(shown) + missing == len(sheet.columns)
        assert any(line.endswith(f" more column{'s' * (missing > 1)}: --wide") for line in lines) == (missing > 0)
        for place, text in zip(shown, column_texts(lines), strict=True):
            if sheet.columns[place].kind in ("number", "word"):
                cells = text.split("\n")
                for row in sheet.rows:
                    assert all(part in cells for part in plain(row[place]).split("\n"))


@pytest.mark.parametrize("command", COMMANDS)
def test_wide_shows_all_of_it_as_a_log_does(sheets, command):
    for sheet in sheets[command]:
        for lines in (printed(sheet, 60, wide=True), printed(sheet, 60, terminal=False)):
            texts = column_texts(lines)
            assert len(texts) == len(sheet.columns) and not any("--wide" in line for line in lines)
            for column, text, cells in zip(sheet.columns, texts, zip(*sheet.rows, strict=True), strict=True):
                assert column.head.split() == text.split()[: len(column.head.split())]
                for cell in cells:
                    assert set(plain(cell).split()) <= set(text.split())


def test_what_matters_least_goes_first():
    columns = (Column("a", "word"), Column("b", rank=1), Column("c", rank=3), Column("d", rank=2))
    sheet = Sheet(columns, (("1" * 8,) * 4,))
    for width, kept in ((45, "abcd"), (44, "abd"), (33, "ab"), (22, "a"), (5, "a")):
        table, missing = fitted(sheet, width)
        assert ("".join(str(column.header) for column in table.columns), missing) == (kept, 4 - len(kept))


def test_names_lose_their_middle_and_still_differ():
    assert shortened(["exp_cifar100_wrn2810-2_bar4"], 16) == ["exp_cif…0-2_bar4"]
    for width in (40, 34):
        cut = shortened(NAMES, width)
        assert max(map(len, cut)) == width and len(set(cut)) == len(NAMES)
        for name, one in zip(NAMES, cut, strict=True):
            assert name.startswith(one.split("…")[0]) and name.endswith(one.split("…")[-1])
    assert shortened(["short", "猫" * 10], 9) == ["short", "猫猫…猫猫"]


def test_rows_of_different_runs_can_be_told_apart_on_any_terminal():
    for width in (60, 80, 120):
        table, _ = fitted(states(), width)
        names = {str(cell) for cell in table.columns[0].cells}
        assert len(names) == len(NAMES)
        assert (names == set(NAMES)) == (width == 60)  # where they are in several lines each


def test_runs_of_one_method_are_named_on_any_terminal_with_their_epochs_where_they_differ(tmp_path):
    (run,) = reproduction(tmp_path, (str(REPOSITORY / "configs/quickstart.yaml"),), (1,), 1.0).runs
    for name, epochs in (("mine", 30), ("short", 2)):
        config = run.config.model_copy(update={"schedule": ScheduleConfig(epochs=epochs, warmup_steps=0)})
        finish(tmp_path / "own" / name, config, [row_of(epoch, 0.9, 2) for epoch in range(1, epochs + 1)])
    (sheet,) = results_tables(collect([tmp_path / "own"], tmp_path))
    for width in (60, 80, 120):
        table, _ = fitted(sheet, width)
        texts = {str(column.header): [str(cell) for cell in column.cells] for column in table.columns}
        assert texts["configuration"] == ["mine", "short"] and texts["epochs"] == ["30", "2"]
        assert "published" not in texts and "diff." not in texts  # of which there is nothing


def test_a_row_of_ones_own_keeps_its_name_and_the_papers_goes_after_lesser_scores(tmp_path, sheets):
    (run,) = reproduction(tmp_path, (str(REPOSITORY / "configs/quickstart.yaml"),), (1,), 1.0).runs
    finish(run.folder(tmp_path), run.config, [row_of(epoch, 0.9, 2) for epoch in range(1, 31)])
    (own,) = results_tables(collect([tmp_path], tmp_path))
    for sheet in (own, *sheets["report"]):
        ranks = {column.head: column.rank for column in sheet.columns}
        assert ranks["configuration"] < ranks["NLL"] < ranks["ECE"]
    assert {column.head: column.rank for column in own.columns}["configuration"] == 0


def test_names_that_no_cut_keeps_apart_are_whole_in_several_lines():
    names = ["a" * 60 + first + "b" * 60 + last + "c" * 60 for first in "xy" for last in "xy"]
    sheet = Sheet((Column("run", "name"), Column("loss")), tuple((name, "1.25") for name in names))
    lines = printed(sheet, 50)
    assert max(map(len, lines)) <= 50
    assert "".join(column_texts(lines)[0].split()).removeprefix("run") == "".join(names)


def test_a_table_without_rows_is_a_head():
    lines = printed(Sheet((Column("run", "name"), Column("loss")), (), "Nothing yet"), 80)
    assert lines[0] == "Nothing yet" and "loss" in lines[2]


def test_nothing_of_a_table_steers_a_terminal():
    hostile = "\x9b31m\x1b]0;x\u202ered"
    rows = ((hostile, Text(hostile, style="dim")),)
    lines = printed(Sheet((Column("run", "name"), Column("state", "word")), rows, hostile, notes=(hostile,)), 200)
    assert all(line.isprintable() for line in lines)
    assert "\n".join(lines).count(r"\x9b31m\x1b]0;x\u202ered") == 4
