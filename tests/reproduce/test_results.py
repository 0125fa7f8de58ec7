"""The paper's tables from run folders: means, deviations, differences by hand; what counts, and what says so."""

import io
import json
import math
import re
import shutil
import statistics
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from places import REPOSITORY
from rich.console import Console
from sample_reproduction import CPU, GPU, begin, curve, fail, finish, finish_planned, reproduction, row_of

from mixmo_fast.config.paper import PAPER_RUNS, PUBLISHED_TOP1, paper_config
from mixmo_fast.errors import MixmoError
from mixmo_fast.report.compared import Results
from mixmo_fast.report.comparison_text import as_markdown
from mixmo_fast.reproduce.found import find_runs
from mixmo_fast.reproduce.reporting import write_comparison
from mixmo_fast.reproduce.results import collect, difference, statistic, write_results
from mixmo_fast.runfolder.history import read_history
from mixmo_fast.training.summary import summarise

VANILLA = "exp_cifar100_wrn2810_1net_standard_bar1"
CUT = "exp_cifar100_wrn2810-2_cutmixmo-p5_standard_bar4"

# The authors' tables, typed from them once more: method, augmentation and width, from top to bottom. A single network
# is "--" there, and "Vanilla" where nothing is mixed.
CIFAR_ROWS = [
    *("Single network", "Single network + Mixup", "Single network + CutMix"),
    *("MIMO", "Linear-MixMo", "Cut-MixMo", "Linear-MixMo + CutMix", "Cut-MixMo + CutMix"),
]
TINY_ROWS = [
    f"{method}, width {width}"
    for width, unpublished in ((1, ["Single network + Mixup", "Single network + CutMix"]), (2, []), (3, []))
    for method in ("Single network", *unpublished, "Linear-MixMo", "Cut-MixMo")
]


@pytest.fixture
def console() -> tuple[Console, io.StringIO]:
    file = io.StringIO()
    return Console(file=file, width=250), file


@pytest.fixture
def fast_page(monkeypatch):
    """A page whose figures take no time to draw."""
    monkeypatch.setattr("mixmo_fast.report.page.as_svg", lambda plot, theme: "<svg/>")


def only(results: Results):
    (row,) = results.configurations
    return row


def markdown_tables(text: str) -> dict[str, list[list[str]]]:
    """Title -> rows of cells, heads first."""
    tables = {}
    for part in text.split("\n## ")[1:]:
        title, _, rest = part.partition("\n")
        lines = [line for line in rest.splitlines() if line.startswith("|")]
        if lines:
            tables[title] = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
            del tables[title][1]  # the rule below the heads
    return tables


# Numbers


def test_means_deviations_and_the_difference_are_those_counted_by_hand(tmp_path):
    plan = reproduction(tmp_path, (write_config(tmp_path, VANILLA),), scale=1.0)
    for run, best, last in zip(plan.runs, (0.80, 0.81, 0.83), (0.79, 0.80, 0.81), strict=True):
        rows = [row_of(299, best), row_of(300, last, nll=0.7 + last / 10, ece=0.02 + last / 100, seconds=3564.0)]
        finish(run.folder(tmp_path), run.config, rows)
    row = only(collect([tmp_path], tmp_path))
    assert row.best_on_test.mean == pytest.approx(0.81333333)
    assert row.best_on_test.std == pytest.approx(0.01527525)  # sqrt((0.0133^2 + 0.0033^2 + 0.0167^2) / 2)
    assert row.best_on_test.n == 3
    assert (row.last.mean, row.last.std) == (pytest.approx(0.80), pytest.approx(0.01))
    assert (row.nll.mean, row.ece.mean) == (pytest.approx(0.78), pytest.approx(0.028))
    assert row.published == (0.8179, 0.8179)
    assert row.difference == pytest.approx(0.8133 - 0.8179)
    assert row.device_hours == pytest.approx(1.0)  # 36 s and 3,564 s
    assert (row.epochs, row.full_epochs, row.marks, row.is_faithful) == (300, 300, (), True)
    assert [seed.best_epoch for seed in row.seeds] == [299] * 3
    assert row.flop == plan.runs[0].flop


def test_one_seed_has_a_mean_and_no_deviation():
    assert statistic([0.5]).model_dump() == {"mean": 0.5, "std": None, "n": 1}
    assert statistic([None, None]) is None


@given(st.lists(st.floats(0, 1), min_size=2, max_size=6))
def test_mean_and_deviation_are_those_of_the_definition(values):
    found = statistic([None, *values])
    mean = sum(values) / len(values)
    assert found.mean == pytest.approx(mean)
    assert found.std == pytest.approx(math.sqrt(sum((one - mean) ** 2 for one in values) / (len(values) - 1)), abs=1e-9)
    assert found.n == len(values)


@pytest.mark.parametrize(
    ("top1", "expected"),
    [
        *((0.8510, -0.0042), (0.85514, -0.0001), (0.85516, 0), (0.8552, 0)),
        *((0.8555, 0), (0.8559, 0), (0.85594, 0), (0.8600, 0.0041)),
    ],
)
def test_the_difference_is_to_the_nearest_end_of_the_range_and_zero_within(top1, expected):
    assert difference(top1, (0.8552, 0.8559)) == expected


@pytest.mark.parametrize("percent", sorted({figure for figures in PUBLISHED_TOP1.values() for figure in figures or ()}))
def test_reaching_a_published_figure_exactly_is_no_difference(percent):
    published = (round(percent / 100, 6),) * 2
    mean = statistic([percent / 100 - 0.001, percent / 100, percent / 100 + 0.001]).mean
    assert difference(mean, published) == 0
    assert difference(mean - 0.0001, published) == -0.0001


def test_hours_are_times_ranks_and_the_speed_is_the_median_of_the_seeds(tmp_path):
    plan = reproduction(tmp_path, (write_config(tmp_path, VANILLA),), scale=0.01)
    for run, speed, ranks in zip(plan.runs, (1000.0, 5000.0, 2000.0), (1, 1, 4), strict=True):
        rows = [row_of(epoch, 0.5, seconds=1200.0, rows_per_second=speed) for epoch in (1, 2, 3)]
        finish(run.folder(tmp_path), run.config, rows, ranks=ranks)
    results = collect([tmp_path], tmp_path)
    row = only(results)
    assert row.rows_per_second == 2000.0
    assert [seed.device_seconds for seed in row.seeds] == [3600, 3600, 14400]
    assert row.device_hours == 2.0
    assert results.is_on_gpus and row.devices == (GPU,)
    begin(plan.runs[0].folder(tmp_path), plan.runs[0].config, rows, device=CPU)
    assert not collect([tmp_path], tmp_path).is_on_gpus


def test_a_real_run_is_read_as_its_summary_says(trained, tmp_path):
    row = only(collect([trained.folder / "runs"], tmp_path))
    summary = json.loads((trained.run / "summary.json").read_text())
    (seed,) = row.seeds
    assert (seed.best_on_test, seed.best_epoch) == (summary["best_on_test"]["top1"], summary["best_on_test"]["epoch"])
    assert (seed.last, seed.nll, seed.ece) == tuple(summary["last"][name] for name in ("top1", "nll", "ece"))
    assert (seed.rows_per_second, seed.train_seconds) == (summary["rows_per_second"], summary["train_seconds"])
    assert (row.name, row.method, row.msda, row.members, row.published) == ("tiny", "Cut-MixMo", "CutMix", 2, None)
    assert row.flop > 0 and seed.device == summary["device"]
    assert (tmp_path / seed.folder).resolve() == trained.run.resolve()


def test_best_on_test_does_not_depend_on_where_it_is_read(tmp_path):
    """The summary that training writes, and the epochs alone, as of a run that goes on."""
    config = paper_config(VANILLA)
    rows = [row_of(1, 0.5), row_of(2, 0.7), row_of(3, 0.7), row_of(4, 0.6)]
    begin(tmp_path / "a" / VANILLA, config, rows)
    (seed,) = only(collect([tmp_path], tmp_path)).seeds
    summary = summarise(VANILLA, config, read_history(tmp_path / "a" / VANILLA), GPU, "resident", "bf16")
    assert (seed.best_on_test, seed.best_epoch) == (summary.best_on_test.top1, summary.best_on_test.epoch)
    assert seed.best_epoch == 3  # the latest of equals
    assert seed.last == summary.last.top1 and seed.train_seconds == summary.train_seconds


# Tables


def write_config(folder: Path, name: str) -> str:
    """The configuration file of a published run, without a schedule of its own."""
    source = REPOSITORY / "configs" / PAPER_RUNS[name] / f"{name}.yaml"
    return str(shutil.copy(source, folder / f"{name}.yaml"))


def test_titles_rows_and_published_figures_are_those_of_the_authors_tables(tmp_path):
    reproduction(tmp_path, ("tiny", "fashion", "cifar10", "cifar100"), seeds=(1,))
    results = collect([tmp_path], tmp_path)
    tables = markdown_tables(as_markdown(results, "again"))
    assert list(tables) == [
        "CIFAR-100 with WideResNet-28-10",
        "CIFAR-10 with WideResNet-28-10",
        "Tiny ImageNet-200 with PreActResNet-18-width",
        "Fashion-MNIST with WideResNet-10-1",
    ]
    for title, rows in tables.items():
        expected = TINY_ROWS if title.startswith("Tiny") else CIFAR_ROWS
        assert [row[0] for row in rows[1:]] == expected
        assert rows[0][:2] == ["Method", "Ours, best on test"]
        assert ("Published" in rows[0]) is not title.startswith("Fashion")
    published = [rows for title, rows in tables.items() if not title.startswith("Fashion")]
    shown = {row[-1]: row[rows[0].index("Published")] for rows in published for row in rows[1:]}
    for name, published in PUBLISHED_TOP1.items():
        words = " - ".join(f"{top1:.2f}" for top1 in published) + " %" if published else "–"  # noqa: RUF001
        assert shown[name] == words
    in_order = [one.name for one in results.configurations if one.name in PAPER_RUNS and "cifar100" not in one.name]
    assert in_order == [name for name in PAPER_RUNS if "cifar100" not in name]


def test_a_row_of_the_markdown_table_by_hand(tmp_path):
    plan = reproduction(tmp_path, (write_config(tmp_path, CUT),), seeds=(1, 2), scale=1.0)
    for run, best in zip(plan.runs, (0.8540, 0.8564), strict=True):
        rows = [row_of(299, best, 2), row_of(300, 0.85, 2, nll=0.6123, ece=0.0321, rows_per_second=12345.0)]
        finish(run.folder(tmp_path), run.config, rows)
    (heads, row), *_ = markdown_tables(as_markdown(collect([tmp_path], tmp_path), "again")).values()
    assert dict(zip(heads, row, strict=True)) == {
        "Method": "Cut-MixMo",
        "Ours, best on test": "85.52 ± 0.17 %",
        "Ours, last epoch": "85.00 ± 0.00 %",
        "Published": "85.52 - 85.59 %",
        "Difference": "inside",
        "NLL": "0.6123",
        "ECE": "0.0321",
        "Seeds": "2",
        "Rows/s": "6,672",  # the median of 1,000 and 12,345
        "GPU time": "1 min 12 s",
        "Remarks": "",
        "Configuration": CUT,
    }


# What counts


def test_shortened_and_unfinished_rows_say_so_and_only_complete_seeds_count(tmp_path):
    plan = reproduction(tmp_path, (write_config(tmp_path, VANILLA),), seeds=(1, 2, 3, 4), scale=0.01)
    first, second, third, _ = plan.runs
    finish_planned(tmp_path, first, 0.8)
    begin(second.folder(tmp_path), second.config, [row_of(1, 0.99)])
    fail(third.folder(tmp_path), "a | b")
    results = collect([tmp_path], tmp_path)
    row = only(results)
    assert [seed.status for seed in row.seeds] == ["complete", "stopped", "failed", "waiting"]
    assert (row.best_on_test.mean, row.best_on_test.n, row.best_on_test.std) == (0.8, 1, None)
    assert row.marks == ("3 of 300 epochs", "1 of 4 seeds", "1 stopped", "1 waiting", "1 failed")
    assert not row.is_faithful
    assert row.seeds[1].best_on_test == 0.99
    text = as_markdown(results, "again")
    assert "3 of 300 epochs; 1 of 4 seeds; 1 stopped; 1 waiting; 1 failed" in text
    assert "- exp_cifar100_wrn2810_1net_standard_bar1, seed 3: a | b" in text
    assert "1 of 4 runs" in text and "no reproduction" in text


def test_no_shortened_run_is_counted_inside_the_published_range(tmp_path):
    plan = reproduction(tmp_path, (write_config(tmp_path, VANILLA),), seeds=(1,), scale=0.01)
    finish_planned(tmp_path, plan.runs[0], 0.8179)
    results = collect([tmp_path], tmp_path)
    assert only(results).difference == 0
    assert "inside the published range" not in as_markdown(results, "again")


def test_other_settings_under_a_published_name_are_named_and_not_compared(tmp_path):
    run = reproduction(tmp_path, ("cifar10",), (1,), 1.0, ("network.width=1", "msda=null")).runs[5]
    finish(run.folder(tmp_path), run.config, curve(0.9, 300, 2))
    row = next(one for one in collect([tmp_path], tmp_path).configurations if one.name == run.name)
    assert row.changed == ("network.width: 10 -> 1",)
    assert "other settings: network.width: 10 -> 1" in row.marks
    assert row.published is None and row.difference is None and not row.is_faithful
    planned = {one.name: one for one in collect([tmp_path], tmp_path).configurations}
    without = planned["exp_cifar10_wrn2810-2_cutmixmo-p5_msdacutmix_bar4"]
    assert 'msda.method: "cutmix" -> none' in without.changed


def test_runs_of_one_name_and_different_settings_are_never_averaged(tmp_path):
    whole = paper_config(VANILLA)
    short = whole.model_copy(update={"schedule": whole.schedule.model_copy(update={"epochs": 2, "milestones": {}})})
    finish(tmp_path / "one" / VANILLA, whole, [row_of(300, 0.82)])
    finish(tmp_path / "two" / VANILLA, short, [row_of(2, 0.40)])
    rows = collect([tmp_path], tmp_path).configurations
    assert sorted((row.best_on_test.mean, row.best_on_test.n, row.epochs, row.full_epochs) for row in rows) == [
        (0.40, 1, 2, 300),
        (0.82, 1, 300, 300),
    ]
    assert [row.marks for row in rows] == [("2 of 300 epochs",), ()]


def test_a_run_that_began_with_other_weights_is_a_row_of_its_own_and_says_so(tmp_path):
    for seed, folder in enumerate(("fresh", "started"), start=1):
        config = paper_config(VANILLA).model_copy(update={"seed": seed})
        finish(tmp_path / folder / VANILLA, config, [row_of(300, 0.81 + seed / 100)])
    path = tmp_path / "started" / VANILLA / "environment.json"
    init = {"path": "/elsewhere/theirs.ckpt", "sha256": "0123456789abcdef", "optimizer": True}
    path.write_text(json.dumps(json.loads(path.read_text()) | {"init": init}))
    fresh, started = sorted(collect([tmp_path], tmp_path).configurations, key=lambda row: row.best_on_test.mean)
    assert [(row.best_on_test.n, round(row.best_on_test.mean, 6)) for row in (fresh, started)] == [(1, 0.82), (1, 0.83)]
    assert fresh.is_faithful and fresh.published is not None
    assert not started.is_faithful and started.published is None
    assert started.marks == ("other settings: started from theirs.ckpt (01234567), with its momentum",)


def test_different_settings_under_a_name_of_ones_own_are_told_apart(tmp_path):
    config = paper_config(VANILLA)
    faster = config.model_copy(update={"optimizer": config.optimizer.model_copy(update={"lr": 0.2})})
    finish(tmp_path / "a" / "mine", config, [row_of(300, 0.7)])
    finish(tmp_path / "b" / "mine", faster, [row_of(300, 0.6)])
    rows = collect([tmp_path], tmp_path).configurations
    assert sorted(row.marks for row in rows) == [(), ("other settings: optimizer.lr: 0.05 -> 0.2",)]
    assert {row.published for row in rows} == {None}


def test_one_seed_twice_counts_once_and_the_complete_one_counts(tmp_path):
    config = paper_config(VANILLA)
    begin(tmp_path / "a" / VANILLA, config, [row_of(1, 0.1)])
    finish(tmp_path / "b" / VANILLA, config, [row_of(300, 0.8)])
    finish(tmp_path / "c" / VANILLA, config, [row_of(300, 0.9)])
    other = config.model_copy(update={"seed": 2, "step": config.step.model_copy(update={"precision": "fp32"})})
    finish(tmp_path / "d" / VANILLA, other, [row_of(300, 0.82)])
    results = collect([tmp_path], tmp_path)
    row = only(results)
    assert [(seed.seed, seed.folder) for seed in row.seeds] == [(1, f"b/{VANILLA}"), (2, f"d/{VANILLA}")]
    assert row.best_on_test.mean == pytest.approx(0.81)
    assert results.left_out == (
        f"a/{VANILLA}: the same configuration and seed as b/{VANILLA}",
        f"c/{VANILLA}: the same configuration and seed as b/{VANILLA}",
    )
    assert results.left_out[0] in as_markdown(results, "again")


def test_runs_are_found_at_any_depth_once_and_no_deeper_than_a_run(tmp_path):
    config = paper_config(VANILLA)
    inner = tmp_path / "x" / "y" / "run"
    finish(inner, config, [row_of(300, 0.8)])
    finish(inner / "checkpoints" / "old", config, [row_of(300, 0.8)])
    finish(tmp_path / ".hidden" / "run", config, [row_of(300, 0.8)])
    assert [run.folder for run in find_runs([tmp_path, tmp_path / "x", inner])] == [inner]
    (tmp_path / "z").mkdir()
    reproduction(tmp_path / "z", seeds=(7,))
    assert [run.planned.seed for run in find_runs([tmp_path])] == [1] + [7] * 8


def test_a_damaged_run_is_a_failed_one_and_the_others_keep_their_numbers(tmp_path):
    plan = reproduction(tmp_path, (write_config(tmp_path, VANILLA),), seeds=(1, 2))
    for run in plan.runs:
        finish_planned(tmp_path, run, 0.8)
    (plan.runs[0].folder(tmp_path) / "summary.json").write_text("{")
    row = only(collect([tmp_path], tmp_path))
    assert [seed.status for seed in row.seeds] == ["failed", "complete"]
    assert "summary.json: " in row.seeds[0].error and row.best_on_test.n == 1


# Files and commands


def test_results_json_holds_all_numbers_and_can_be_read_back(tmp_path, console, fast_page):
    plan = reproduction(tmp_path, (write_config(tmp_path, CUT),))
    for run, best in zip(plan.runs, (0.8, 0.82, 0.81), strict=True):
        finish_planned(tmp_path, run, best)
    write_comparison((tmp_path,), console[0])
    text = (tmp_path / "results.json").read_text()
    back = Results.model_validate_json(text)
    collected = collect([tmp_path], tmp_path)
    assert back.model_dump() == collected.model_dump()
    tree = json.loads(text)["configurations"][0]
    assert [seed["best_on_test"] for seed in tree["seeds"]] == [0.8, 0.82, 0.81]
    assert tree["published"] == [0.8552, 0.8559] and tree["best_on_test"]["n"] == 3
    assert "history" not in text
    assert tree["seeds"][0]["folder"] == f"runs/seed1/{CUT}"
    assert statistics.stdev([0.8, 0.82, 0.81]) == pytest.approx(tree["best_on_test"]["std"])


def test_the_same_runs_make_the_same_files_wherever_they_lie(tmp_path, console, fast_page):
    folders = [tmp_path / "one", tmp_path / "two"]
    reproduction(folders[0], seeds=(1,))
    for run in find_runs([folders[0]]):
        finish_planned(folders[0], run.planned, 0.9)
    shutil.copytree(folders[0], folders[1])
    for folder in folders:
        write_comparison((folder,), console[0])
    for name in ("results.json", "results.md", "report.html"):
        one, two = ((folder / name).read_text().replace(str(folder), "HERE") for folder in folders)
        assert one == two


def test_the_printed_table_has_the_numbers_and_says_where_the_files_are(tmp_path, console, fast_page):
    plan = reproduction(tmp_path, (write_config(tmp_path, CUT),), scale=1.0)
    for run, best in zip(plan.runs[:2], (0.85, 0.86), strict=True):
        finish_planned(tmp_path, run, best)
    page = write_comparison((tmp_path,), console[0])
    text = console[1].getvalue()
    assert page == tmp_path / "report.html" and str(page) in text and str(tmp_path / "results.json") in text
    for part in ("85.52 - 85.59 %", "85.50 ± 0.71 %", "-0.02", "2 of 3", "1 waiting"):
        assert part in text
    assert "2 of 3 runs of 1 configuration are complete." in text


def test_a_single_run_gets_its_own_page_anew_and_no_comparison_over_it(trained, tmp_path, console, fast_page):
    run = shutil.copytree(trained.run, tmp_path / "tiny")
    page = write_comparison((run,), console[0])
    assert page == run / "report.html" and "<h1>tiny</h1>" in page.read_text()
    assert "The recipe in plain words" in page.read_text()
    assert not (run / "results.json").exists()
    page.unlink()
    other = write_comparison((run,), console[0], tmp_path / "out")
    assert other == tmp_path / "out" / "report.html" and (tmp_path / "out" / "results.md").is_file()
    assert page.is_file() and "../tiny/report.html" in other.read_text()


def test_each_writes_the_pages_of_runs_that_have_ended(trained, tmp_path, console, fast_page, monkeypatch):
    for name in ("a", "b"):
        shutil.copytree(trained.run, tmp_path / name)
    (tmp_path / "b" / "summary.json").unlink()
    write_comparison((tmp_path,), console[0])
    assert not (tmp_path / "a" / "report.html").exists()
    write_comparison((tmp_path,), console[0], each=True)
    assert (tmp_path / "a" / "report.html").is_file() and not (tmp_path / "b" / "report.html").exists()
    assert f"mixmo-fast report {tmp_path} --each" in (tmp_path / "results.md").read_text()


def test_a_report_is_written_without_torch(trained, tmp_path):
    run = shutil.copytree(trained.run, tmp_path / "tiny")
    plan = reproduction(tmp_path / "many", seeds=(1,))
    finish_planned(tmp_path / "many", plan.runs[0], 0.9)
    code = (
        "import atexit, sys; from mixmo_fast.cli.app import main; "
        "atexit.register(lambda: print(*sorted({'torch', 'jinja2'} & set(sys.modules)))); main()"
    )
    for folder in (run, tmp_path / "many"):
        command = [sys.executable, "-c", code, "report", str(folder)]
        done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=REPOSITORY)
        assert done.stdout.splitlines()[-1] == "jinja2"  # by which the page was written
        assert (folder / "report.html").is_file()


def test_what_cannot_be_reported_is_one_line(trained, tmp_path, console):
    empty = tmp_path / "empty"
    empty.mkdir()
    (tmp_path / "plan.json").write_text("{}")
    cases = {
        (empty,): "no runs in it",
        (tmp_path / "nowhere",): "no such folder",
        (trained.folder, trained.run): "-o DIR",
        (tmp_path,): "plan.json",
    }
    for places, says in cases.items():
        with pytest.raises(MixmoError, match=re.escape(says)) as error:
            write_comparison(places, console[0])
        assert "\n" not in str(error.value)
    with pytest.raises(MixmoError, match="is a run folder"):
        write_comparison((trained.folder,), console[0], trained.run)
    blocked = tmp_path / "file"
    blocked.write_text("")
    for out in (blocked, blocked / "deeper"):
        with pytest.raises(MixmoError, match="--out: cannot make the folder"):
            write_results(collect([trained.folder], tmp_path), out, "again")
    (tmp_path / "out" / "results.md").mkdir(parents=True)
    with pytest.raises(MixmoError, match=r"results\.md: cannot write"):
        write_results(collect([trained.folder], tmp_path), tmp_path / "out", "again")
