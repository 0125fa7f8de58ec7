"""The page over many runs: true to the results, marked where they are no reproduction, and as a browser shows it."""

import json
import re
from pathlib import Path

import pytest
from browser import DESK, PHONE, Browser, find_browser
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from places import REPOSITORY
from sample_reproduction import CPU, begin, fail, finish, finish_planned, full_sample, reproduction, row_of
from test_report import SCRIPT, SHAPE, Outline, as_css

from mixmo_fast.config.load import load_config
from mixmo_fast.config.schema import ScheduleConfig
from mixmo_fast.report.accuracy import wilson
from mixmo_fast.report.colours import DARK, LIGHT
from mixmo_fast.report.compared import Results, figure_labels, labels_of
from mixmo_fast.report.comparison import comparison_page
from mixmo_fast.report.comparison_figures import beside_published, curves_of
from mixmo_fast.report.comparison_text import as_markdown
from mixmo_fast.report.cost_figures import against_cost, against_diversity
from mixmo_fast.report.drawing import as_svg, themed
from mixmo_fast.reproduce.results import collect, write_results

COMMAND = "mixmo-fast report runs/reproduce"
DIGITS = str(REPOSITORY / "configs/quickstart.yaml")


@pytest.fixture(scope="module")
def sample(tmp_path_factory) -> Path:
    """A shortened reproduction of CIFAR-10's and Tiny ImageNet's tables, with runs in every state, and its page."""
    out = tmp_path_factory.mktemp("sample") / "re produce"
    plan = full_sample(out, ("cifar10", "tiny"), scale=0.02)
    (plan.runs[0].folder(out) / "report.html").write_text("its own")
    write_results(collect([out], out), out, COMMAND)
    return out


@pytest.fixture(scope="module")
def results(sample) -> Results:
    return collect([sample], sample)


@pytest.fixture(scope="module")
def page(sample) -> Outline:
    return Outline((sample / "report.html").read_text())


@pytest.fixture
def no_figures(monkeypatch):
    """They take seconds to draw."""
    monkeypatch.setattr("mixmo_fast.report.page.as_svg", lambda plot, theme: "<svg/>")


def table_of(results: Results, title: str):
    return dict(results.tables)[title]


CIFAR, TINY = "CIFAR-10 with WideResNet-28-10", "Tiny ImageNet-200 with PreActResNet-18-width"


# What is on it


def test_it_has_the_papers_tables_all_runs_and_how_to_write_it_anew(page):
    sections = [CIFAR, TINY, "Overview", "Each run", "Failed", "How to write this page anew"]
    assert [text for text in page.text if text in sections][: len(sections)] == sections  # the contents
    assert COMMAND in page.text
    for path in ("results.json", "results.md"):
        assert any(path in text for text in page.text)
    rows = len(page.all("tr"))
    assert rows == (1 + 8) + (1 + 11) + (1 + 8 * 3) + (1 + 11 * 3)


def test_numbers_on_the_page_are_those_of_the_results(results, page):
    for row in results.configurations:
        if row.best_on_test:
            assert f"{100 * row.best_on_test.mean:.2f} ± {100 * row.best_on_test.std:.2f} %" in page.text
        for seed in row.complete:
            assert f"{100 * seed.best_on_test:.2f} %" in page.text and f"{seed.nll:.4f}" in page.text


def test_shortened_incomplete_and_failed_rows_carry_marks(sample, page):
    text = (sample / "report.html").read_text()
    marks = re.findall(r'<span class="mark">(.*?)</span>', text)
    assert marks.count("6 of 300 epochs") == 8 and marks.count("24 of 1200 epochs") == 11
    assert marks.count("2 of 3 seeds") == 3  # failed, stopped and waiting, one each
    for status in ("failed", "stopped", "waiting"):
        assert marks.count(f"1 {status}") == marks.count(status) == 1
    assert any("no reproduction" in line for line in page.text)
    assert any("training diverged" in line for line in page.text)


def test_a_whole_and_complete_reproduction_has_no_marks(tmp_path, no_figures):
    plan = reproduction(tmp_path, ("cifar10",), seeds=(1,), scale=1.0)
    for run in plan.runs:
        finish(run.folder(tmp_path), run.config, [row_of(300, run.published[0] / 100, run.members)])
    text = comparison_page(collect([tmp_path], tmp_path), tmp_path, COMMAND)
    assert 'class="mark"' not in text
    assert "8 inside the published range, 0 above it, 0 below it." in text
    assert ">8 of 8<" in text


def test_a_run_is_linked_exactly_where_it_has_a_page_of_its_own(sample, results, page):
    links = [one["href"] for one in page.all("a") if not one["href"].startswith("#")]
    first = next(row for row in results.configurations if row.name == "exp_cifar10_wrn2810_1net_standard_bar1")
    assert links == [f"{first.seeds[0].folder}/report.html"]
    assert (sample / links[0]).read_text() == "its own"


def test_a_link_leads_there_from_another_folder_too(sample, tmp_path, no_figures):
    found = Outline(comparison_page(collect([sample], tmp_path), tmp_path, COMMAND))
    (link,) = [one["href"] for one in found.all("a") if not one["href"].startswith("#")]
    assert "re%20produce" in link
    assert (tmp_path / link.replace("%20", " ")).resolve().read_text() == "its own"


def test_a_link_cannot_leave_the_folder_by_a_scheme(tmp_path, no_figures):
    run = reproduction(tmp_path / "plan", ("cifar10",), seeds=(1,)).runs[0]
    folder = tmp_path / "runs" / "javascript:alert(1)"
    finish(folder, run.config, [row_of(1, 0.9)])
    (folder / "report.html").write_text("its own")
    found = Outline(comparison_page(collect([folder], folder.parent), folder.parent, COMMAND))
    (link,) = [one["href"] for one in found.all("a") if not one["href"].startswith("#")]
    assert link == "javascript%3Aalert%281%29/report.html"


def test_the_page_is_the_same_bytes_and_needs_nothing_else(sample, results, page):
    text = (sample / "report.html").read_text()
    assert comparison_page(collect([sample], sample), sample, COMMAND) == text
    assert text.count("<script") == 1 and f"<script>{SCRIPT}</script>" in text
    assert not re.search(r"@import|url\(|https?://", text)
    assert len(text) < 4_000_000
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))


def test_every_row_of_a_table_has_a_cell_for_each_title(page):
    widths = page.widths()
    assert len(widths) == 4
    assert all(len(set(table)) == 1 for table in widths)


def test_every_figure_says_in_numbers_what_it_shows(page):
    images = page.all("img")
    assert len(images) == 2 * 3 + 8 + 11
    for image in images:
        assert re.search(r"\d", image["alt"]) and not re.search(r"nan|None", image["alt"])


def test_a_reproduction_that_has_not_begun_has_a_page_without_figures(tmp_path):
    reproduction(tmp_path, ("cifar10",))
    found = Outline(comparison_page(collect([tmp_path], tmp_path), tmp_path, COMMAND))
    assert found.all("img") == []
    assert any(
        text.startswith("0 of 24 runs of 8 configurations are complete. Of the others 24 waiting.")
        for text in found.text
    )


def test_names_and_errors_are_text_and_never_markup(tmp_path):
    plan = reproduction(tmp_path, ("cifar10",), seeds=(1,))
    fail(plan.runs[0].folder(tmp_path), "<script>alert(1)</script>")
    found = Outline(comparison_page(collect([tmp_path], tmp_path), tmp_path, "mixmo-fast report '<b>'"))
    assert len(found.all("script")) == 1 and found.all("b") == []
    assert f"{plan.runs[0].name}, seed 1: <script>alert(1)</script>" in found.text


# Figures


def test_the_mean_curve_is_over_complete_seeds_and_members_have_their_own(tmp_path, monkeypatch):
    plan = reproduction(tmp_path, ("cifar10",), (1, 2, 3), 0.01)
    mimo = [run for run in plan.runs if "mimo" in run.name]
    for run, shift in zip(mimo[:2], (0.0, 0.1), strict=True):
        rows = [row_of(epoch, 0.5 + shift + epoch / 100, 2) for epoch in (1, 2, 3)]
        finish(run.folder(tmp_path), run.config, rows)
    begin(mimo[2].folder(tmp_path), mimo[2].config, [row_of(1, 0.99, 2)])
    row = next(one for one in collect([tmp_path], tmp_path).configurations if "mimo" in one.name)
    lines = lines_of(curves_of(row, "MIMO"))
    assert lines["ensemble"] == pytest.approx([0.56, 0.57, 0.58])
    assert lines["member 0"] == pytest.approx([0.54, 0.55, 0.56])
    assert lines["member 1"] == pytest.approx([0.535, 0.545, 0.555])
    assert lines["each seed"] == pytest.approx([0.51, 0.52, 0.53])


def axes_of(plot) -> Axes:
    """A figure, drawn."""
    with themed(LIGHT):
        axes = Figure(layout="constrained").add_subplot()
        plot.draw(axes, LIGHT)
        return axes


def lines_of(plot) -> dict[str, list[float]]:
    """Label -> heights of each labelled line of a figure."""
    return {line.get_label(): list(line.get_ydata()) for line in axes_of(plot).lines if line.get_label()[0] != "_"}


def test_cost_is_time_on_one_kind_of_device_and_work_on_several(tmp_path):
    plan = reproduction(tmp_path, ("cifar10",), (1,), 0.01)
    for run in plan.runs:
        finish_planned(tmp_path, run, 0.9)
    rows = collect([tmp_path], tmp_path).configurations
    plot = against_cost(rows, True)
    assert plot.title == "Top-1 against cost" and "Single network 90.00 % at 1 min 48 s" in plot.finding
    last = plan.runs[-1]
    finish(last.folder(tmp_path), last.config, [row_of(epoch, 0.9, 2) for epoch in (1, 2, 3)], device=CPU)
    plot = against_cost(collect([tmp_path], tmp_path).configurations, False)
    assert plot.title == "Top-1 against work" and f"{float(plan.runs[0].flop):.2g} FLOP" in plot.finding


def test_seeds_without_a_shared_error_are_said_to_be_and_left_out_of_the_mean(tmp_path):
    plan = reproduction(tmp_path, ("cifar10",), (1, 2), 0.01)
    mimo = [run for run in plan.runs if "mimo" in run.name]
    for run, ratio in zip(mimo, (None, 0.8), strict=True):
        finish(run.folder(tmp_path), run.config, [row_of(epoch, 0.9, 2, diversity=ratio) for epoch in (1, 2, 3)])
    single = next(run for run in plan.runs if "1net_standard" in run.name)
    finish(single.folder(tmp_path), single.config, [row_of(epoch, 0.9, 1) for epoch in (1, 2, 3)])
    found = collect([tmp_path], tmp_path)
    row = next(one for one in found.configurations if "mimo" in one.name)
    assert (row.diversity.mean, row.diversity.n) == (0.8, 1)
    back = Results.model_validate_json(found.model_dump_json())
    assert [seed.diversity for one in back.configurations if one.name == row.name for seed in one.seeds] == [None, 0.8]
    text = Outline(comparison_page(found, tmp_path, COMMAND)).text
    assert text.count("no shared error") == 1


def test_figures_without_numbers_are_left_out(tmp_path, results):
    reproduction(tmp_path, ("cifar10",))
    rows = collect([tmp_path], tmp_path).configurations
    assert beside_published(rows) is against_cost(rows, True) is against_diversity(rows) is None
    assert curves_of(rows[0], "Single network") is None
    singles = [row for row in table_of(results, CIFAR) if row.members == 1]
    assert against_diversity(singles) is None


def test_rows_of_one_method_are_told_apart_by_name_and_then_by_their_marks(results):
    rows = table_of(results, CIFAR)
    assert labels_of(rows)[:4] == ["Single network", "Single network + Mixup", "Single network + CutMix", "MIMO"]
    same = [rows[0], rows[0].model_copy(update={"name": "mine"})]
    assert labels_of(same) == [rows[0].name, "mine"]
    longer = rows[0].model_copy(update={"epochs": 300})
    assert labels_of([rows[0], longer]) == [f"{rows[0].name} (6 of 300 epochs)", f"{rows[0].name} (whole)"]
    assert labels_of(table_of(results, TINY))[:2] == ["Single network, width 1", "Single network + Mixup, width 1"]


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])
def test_a_figure_is_drawn_in_the_colours_of_its_theme_and_the_same_each_time(results, theme):
    plot = beside_published(table_of(results, CIFAR))
    svg = as_svg(plot, theme)
    assert theme.second in svg and theme.accent in svg
    assert as_svg(plot, theme) == svg
    assert "no reproduction" in plot.note


def test_seeds_with_the_same_accuracy_are_drawn_apart(tmp_path):
    plan = reproduction(tmp_path, ("cifar10",), (1, 2, 3), 0.01)
    for run in plan.runs[:3]:
        finish(run.folder(tmp_path), run.config, [row_of(epoch, 0.9) for epoch in (1, 2, 3)])
    rows = collect([tmp_path], tmp_path).configurations
    (seeds,) = (line for line in axes_of(beside_published(rows)).lines if len(line.get_xdata()) == 3)
    assert list(seeds.get_xdata()) == [0.9] * 3 and len(set(seeds.get_ydata())) == 3


def test_configurations_of_the_same_cost_are_drawn_apart_and_said_at_their_own(tmp_path):
    plan = reproduction(tmp_path, ("cifar10",), (1,), 0.01)
    for run in plan.runs:
        finish_planned(tmp_path, run, 0.9)
    plot = against_cost(collect([tmp_path], tmp_path).configurations, True)
    places = [
        line.get_xdata()[0] for line in axes_of(plot).lines if line.get_marker() in "os^" and len(line.get_xdata()) == 1
    ]
    assert len(places) == len(set(places)) == len(plan.runs)
    assert plot.finding.count("at 1 min 48 s") == len(plan.runs)
    assert "beside each other" in plot.note


def test_accuracies_have_the_interval_of_their_test_set_and_say_what_it_is(results):
    rows = table_of(results, CIFAR)
    assert {row.test_images for row in rows} == {10_000}
    for plot in (beside_published(rows), against_cost(rows, True), against_diversity(rows), curves_of(rows[0], "one")):
        figure = axes_of(plot).figure
        (legend,) = figure.legends
        assert "95 % interval, 10,000 test images" in [text.get_text() for text in legend.get_texts()]
        assert "95 % confidence interval (Wilson) of 10,000 test images" in plot.note
    low, high = wilson(rows[0].best_on_test.mean, 10_000)
    segments = [segment for lines in axes_of(beside_published(rows)).collections for segment in lines.get_segments()]
    assert any(segment[:, 0].tolist() == [low, high] for segment in segments)


def test_an_image_of_a_small_test_set_is_a_small_part_of_an_axis(tmp_path):
    plan = reproduction(tmp_path, (DIGITS,), (1, 2), 1.0)
    for run, top1 in zip(plan.runs, (350 / 359, 351 / 359), strict=True):
        finish(run.folder(tmp_path), run.config, [row_of(30, top1, 2)])
    low, high = axes_of(beside_published(collect([tmp_path], tmp_path).configurations)).get_xlim()
    assert 0.1 * (high - low) > 1 / 359


def test_a_single_epoch_is_a_dot_for_ensemble_seeds_and_members(tmp_path):
    plan = reproduction(tmp_path, ("cifar10",), (1, 2), 0.001)
    for run in plan.runs:
        finish(run.folder(tmp_path), run.config, [row_of(1, 0.5, run.members)])
    row = next(one for one in collect([tmp_path], tmp_path).configurations if one.members == 2)
    lines = [line for line in axes_of(curves_of(row, "MIMO")).lines if len(line.get_xdata()) == 1]
    assert len(lines) == 5 and {line.get_marker() for line in lines} == {"o"}
    assert len({line.get_xdata()[0] for line in lines}) == 5  # none of which hides another


def two_lengths(folder: Path, names=("quickstart", "short")) -> Results:
    """A run of one's own, and the same with a schedule of 2 epochs, in folders of these names."""
    config = load_config(Path(DIGITS))
    brief = config.model_copy(update={"schedule": ScheduleConfig(epochs=2, warmup_steps=0)})
    for place, name, one in zip("ab", names, (config, brief), strict=True):
        rows = [row_of(epoch, 0.9, 2) for epoch in range(1, one.schedule.epochs + 1)]
        finish(folder / place / name, one, rows, device=CPU)
    return collect([folder], folder)


def test_epochs_stand_with_each_row_where_they_differ_and_nothing_is_called_shortened(tmp_path, results, no_figures):
    found = two_lengths(tmp_path)
    rows = found.configurations
    assert figure_labels(rows) == ["quickstart, 30 epochs", "short, 2 epochs"]
    for plot in (beside_published(rows), against_cost(rows, False), against_diversity(rows)):
        assert "short, 2 epochs" in plot.finding and "quickstart, 30 epochs" in plot.finding
    markers = {line.get_marker() for line in axes_of(against_cost(rows, False)).lines} - {"_", "None"}
    assert len(markers & set("os^")) == 2
    text = as_markdown(found, COMMAND)
    heads, *cells = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")]
    assert [row[heads.index("Epochs")] for row in cells[1:]] == ["30", "2"]
    page = comparison_page(found, tmp_path, COMMAND)
    assert ">Epochs</th>" in page.split("Each run</h2>")[0]
    assert "hortened" not in page + text and 'class="mark"' not in page
    for row in (results, found.model_copy(update={"configurations": rows[:1]})):
        assert "Epochs" not in as_markdown(row, COMMAND)


def test_a_configuration_has_no_column_where_it_is_what_names_the_row(tmp_path, no_figures):
    found = two_lengths(tmp_path)
    page = comparison_page(found, tmp_path, COMMAND)
    assert page.count(">Configuration</th>") == 1 and ">Method</th>" not in page
    assert len(set(Outline(page).widths()[0])) == len(set(Outline(page).widths()[1])) == 1
    other = comparison_page(two_lengths(tmp_path / "other", ("mine", "mine")), tmp_path, COMMAND)
    assert other.count(">Configuration</th>") == 2 and other.count(">Method</th>") == 1


# Hostile names

LINK = "[click](https://evil.example) `code` **bold** ~~out~~ www.evil.example"
HOSTILE = f"<b>x</b> | {LINK} \u202egnorw\u202c\n# heading " + "long" * 80


def hostile(tmp_path: Path) -> Results:
    """Results whose names, remarks and errors want to be more than text."""
    plan = reproduction(tmp_path, ("cifar10",), seeds=(1,))
    for run in plan.runs[:2]:
        finish(run.folder(tmp_path), run.config, [row_of(1, 0.9)])
    fail(plan.runs[2].folder(tmp_path), HOSTILE)
    found = collect([tmp_path], tmp_path)
    changed = {"name": HOSTILE, "changed": (HOSTILE,), "method": HOSTILE, "table": HOSTILE}
    rows = tuple(row.model_copy(update=changed) for row in found.configurations)
    return found.model_copy(update={"configurations": rows, "left_out": (f"# {HOSTILE}", "1. one")})


def test_hostile_names_are_text_in_markdown(tmp_path):
    results = hostile(tmp_path)
    text = as_markdown(results, "mixmo-fast report '```\n# heading'")
    assert "\u202e" not in text and "<b>" not in text
    assert not re.search(r"(?<!\\)[\[\]]|(?<!\\)\*|(?<!\\)~|[^\\]://|www\.", text.split("## How to write")[0])
    heads = next(line for line in text.splitlines() if line.startswith("| Method"))
    rows = [line for line in text.splitlines() if line.startswith("| &lt;b>")]
    assert len(rows) == len(results.configurations)
    assert {len(re.findall(r"(?<!\\)\|", row)) for row in rows} == {heads.count("|")}
    assert not re.search(r"^(- )?# heading|^- (#|1\.)", text, flags=re.MULTILINE)
    assert text.rstrip().endswith("````\nmixmo-fast report '```\\n# heading'\n````")


def test_names_of_configurations_stay_readable_in_markdown(results):
    text = as_markdown(results, COMMAND)
    for row in results.configurations:
        assert f"| {row.name} |" in text


def test_hostile_names_are_text_on_the_page(tmp_path, no_figures):
    text = comparison_page(hostile(tmp_path), tmp_path, COMMAND)
    assert "\u202e" not in text and "\\u202egnorw" in text
    found = Outline(text)
    assert found.all("b") == [] and not [one for one in found.all("a") if "evil" in one["href"]]


# In a browser

FIRST = """
const table = document.querySelector("table.sortable");
const row = table.tBodies[0].rows[0];
return [...row.cells].slice(0, 2).map(cell => {
  const box = cell.getBoundingClientRect();
  return [cell.innerText, box.left, box.right, box.bottom];
}).concat([[document.documentElement.scrollWidth, document.documentElement.clientWidth]]);
"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory) -> Browser:
    program = find_browser()
    if program is None:
        pytest.skip("no Chromium is installed")
    return Browser(program, tmp_path_factory.mktemp("browser"))


@pytest.mark.browser
@pytest.mark.parametrize(("size", "dark"), [(PHONE, False), (DESK, True)], ids=["phone-light", "desk-dark"])
def test_the_page_fits_its_window_and_shows_all_images(browser, sample, size, dark):
    found, console = browser.measure(sample / "report.html", SHAPE, size, dark)
    assert console == []
    assert found["page"] <= size[0] == found["width"]
    assert found["outside"] == [] and found["fetched"] == []
    assert found["paper"] == as_css((DARK if dark else LIGHT).paper)
    assert all(complete and natural > 0 and shown > 250 for complete, natural, shown in found["images"])
    assert set(found["dark"]) == {dark}


@pytest.mark.browser
@pytest.mark.parametrize("size", [PHONE, DESK], ids=["phone", "desk"])
def test_name_and_score_are_on_the_first_screen_without_scrolling(browser, sample, results, size):
    found, _ = browser.measure(sample / "report.html", FIRST, size)
    (name, *_), (score, *_), (scrolled, shown) = found
    row = table_of(results, CIFAR)[0]
    assert name.startswith("Single network") and score.startswith(f"{100 * row.best_on_test.mean:.2f}")
    assert scrolled <= shown
    for _, left, right, bottom in found[:2]:
        assert left >= 0 and right <= shown and bottom <= size[1]


@pytest.mark.browser
def test_on_a_desk_no_table_is_clipped_and_no_heading_takes_three_lines(browser, sample):
    script = """
    return [...document.querySelectorAll(".dense .scroll")].map(one => {
      const head = one.querySelector("thead th button"), line = parseFloat(getComputedStyle(head).lineHeight);
      return [one.scrollWidth - one.clientWidth, one.querySelector("thead").getBoundingClientRect().height / line];
    });
    """
    found, _ = browser.measure(sample / "report.html", script)
    assert len(found) == 4
    assert all(hidden == 0 and lines < 3 for hidden, lines in found), found


@pytest.mark.browser
@pytest.mark.parametrize("size", [PHONE, DESK], ids=["phone", "desk"])
def test_hostile_names_do_not_widen_the_page(browser, tmp_path, no_figures, size):
    page = tmp_path / "report.html"
    page.write_text(comparison_page(hostile(tmp_path), tmp_path, COMMAND))
    found, console = browser.measure(page, SHAPE, size)
    assert console == [] and found["page"] <= size[0] and found["outside"] == []


@pytest.mark.browser
def test_a_click_sorts_the_papers_table_by_our_accuracy(browser, sample):
    script = """
    const table = document.querySelector("table.sortable");
    const place = [...table.querySelectorAll("thead th")].findIndex(head => head.textContent.includes("best on test"));
    table.querySelectorAll("thead button")[place].click();
    return [...table.tBodies[0].rows].map(row => [row.cells[place].textContent, row.lastElementChild.textContent]);
    """
    found, console = browser.measure(sample / "report.html", script)
    rows = json.loads((sample / "results.json").read_text())["configurations"]
    expected = sorted((row for row in rows if row["table"] == CIFAR), key=lambda row: -row["best_on_test"]["mean"])
    assert console == []
    assert [name for _, name in found] == [row["name"] for row in expected]
    assert [text.split()[0] for text, _ in found] == [f"{100 * row['best_on_test']['mean']:.2f}" for row in expected]
