"""Figures show the numbers that they are given, legibly, to everybody, and are the same bytes every time."""

import json
import re
import shutil
from itertools import combinations
from types import SimpleNamespace
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.text import Text
from places import REPOSITORY
from sample_run import CLASSES, CORRUPTIONS, epochs_of, evaluation, inspection, write_json

from mixmo_fast.config.load import load_config
from mixmo_fast.errors import MixmoError
from mixmo_fast.networks.anatomy import DEFINITION
from mixmo_fast.report import drawing
from mixmo_fast.report.accuracy import wilson
from mixmo_fast.report.colours import DARK, LIGHT
from mixmo_fast.report.drawing import SMALL_PT, Plot, as_svg, is_dark, themed
from mixmo_fast.report.figures import (
    disagreement,
    diversity,
    learning_curves,
    learning_rates,
    plot_learning_curves,
    test_top1,
    training_loss,
)
from mixmo_fast.report.inspection_figures import (
    active_filters,
    active_filters_by_layer,
    encoder_norms,
    members_at_inference,
)
from mixmo_fast.report.run_files import Planned
from mixmo_fast.report.run_plots import write_plots
from mixmo_fast.report.score_figures import confusion_matrix, detection, reliability, risk_coverage, robustness
from mixmo_fast.runfolder.evaluated import FilterActivity, SavedEvaluation, SavedInspection
from mixmo_fast.runfolder.records import Epoch

test_top1.__test__ = False  # a figure, not a test

QUICK = load_config(REPOSITORY / "configs/quickstart.yaml")
DIGITS = SimpleNamespace(train_images=1438, test_images=359)
THEMES = pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])


def parse_history(rows: list[dict]) -> tuple[Epoch, ...]:
    return tuple(map(Epoch.model_validate, rows))


def on_canvas(plot: Plot, theme=LIGHT) -> Axes:
    """The axes of a plot, not laid out yet."""
    with themed(theme):
        figure = Figure(figsize=(plot.width_in, plot.height_in), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        drawing._draw(plot, axes, theme)
    return axes


def drawn(plot: Plot, theme=LIGHT) -> Axes:
    """The axes of a plot, laid out."""
    axes = on_canvas(plot, theme)
    with themed(theme):
        axes.get_figure().draw_without_rendering()
    return axes


def all_plots(history, found: SavedEvaluation, looked: SavedInspection) -> list[Plot]:
    bins = found.reliability
    plots = [
        *learning_curves(history, Planned(QUICK, DIGITS)),
        *(diversity(history), disagreement(history)),
        *(reliability(bins.before, "before temperature scaling", 0.1), reliability(bins.after, "after", 0.01)),
        *(confusion_matrix(found.confusion, found.classes), risk_coverage(found.selective)),
        *(robustness(found.robustness), detection(found.ood)),
        *(encoder_norms(looked.encoder_l1), active_filters(looked.active_filters)),
        *(active_filters_by_layer(looked.active_filters), members_at_inference(looked.top1_by_members, 359)),
    ]
    return [plot for plot in plots if plot is not None]


@pytest.fixture(scope="module")
def history():
    return parse_history(epochs_of(20))


@pytest.fixture(scope="module")
def found() -> SavedEvaluation:
    return SavedEvaluation.model_validate(evaluation())


@pytest.fixture(scope="module")
def looked() -> SavedInspection:
    return SavedInspection.model_validate(inspection())


def words(axes: Axes) -> list[str]:
    return [text.get_text() for text in axes.texts]


# What is drawn is what was measured


def test_curves_go_through_the_numbers_of_the_history(history):
    loss, rate = drawn(training_loss(history)), drawn(learning_rates(history))
    assert loss.lines[0].get_xydata().tolist() == [[row.epoch, row.train_loss] for row in history]
    assert rate.lines[0].get_xydata().tolist() == [[row.epoch, row.learning_rate] for row in history]
    assert rate.get_yscale() == "log"
    assert drawn(diversity(history)).lines[0].get_ydata().tolist() == [row.diversity for row in history]
    assert "shared error" not in diversity(history).note
    gap = [*history[:-1], history[-1].model_copy(update={"diversity": None})]
    assert drawn(diversity(gap)).lines[0].get_ydata().tolist() == [row.diversity for row in history[:-1]]
    assert "Epochs without a shared error" in diversity(gap).note
    assert drawn(disagreement(history)).lines[0].get_ydata().tolist() == [row.disagreement for row in history]


def test_accuracy_is_drawn_for_evaluated_epochs_alone_and_the_latest_best_one_is_ringed():
    rows = epochs_of(9)
    for row in rows:
        row["top1"], row["member_top1"] = (0.75, [0.7, 0.5]) if row["epoch"] in (5, 8) else (0.25, [0.25, 0.5])
    for row in rows[1::5]:  # epochs 2 and 7
        del row["top1"], row["member_top1"]
    plot = test_top1(parse_history(rows))
    member0, member1, ensemble, ring = drawn(plot).lines
    assert ensemble.get_xdata().tolist() == [1, 3, 4, 5, 6, 8, 9]
    assert ensemble.get_ydata().tolist() == [0.25, 0.25, 0.25, 0.75, 0.25, 0.75, 0.25]
    assert (member0.get_ydata()[3], member1.get_ydata()[3]) == (0.7, 0.5)
    assert ring.get_xydata().tolist() == [[8, 0.75]]
    assert "ensemble 25.00 %, member 0 25.00 % and member 1 50.00 %" in plot.finding
    assert "75.00 % after epoch 8" in plot.finding


def test_a_single_network_has_one_line_and_no_members():
    rows = [row | {"member_top1": [row["top1"]], "diversity": None, "disagreement": None} for row in epochs_of(3, 1)]
    history = parse_history(rows)
    labels = [line.get_label() for line in drawn(test_top1(history)).lines]
    assert labels == ["network", "best on test"]
    assert "member" not in test_top1(history).finding
    assert diversity(history) is None and disagreement(history) is None


def test_reliability_has_a_bar_a_gap_and_a_count_for_each_bin_that_is_not_empty(found):
    bins = [one for one in found.reliability.before if one.count]
    assert 0 < len(bins) < 15
    axes = drawn(reliability(found.reliability.before, "before", 0.1))
    assert [bar.get_height() for bar in axes.patches] == [one.accuracy for one in bins]
    assert [bar.get_x() for bar in axes.patches] == [one.low for one in bins]
    gaps = axes.collections[0].get_segments()
    assert [gap[:, 1].tolist() for gap in gaps] == [[one.accuracy, one.confidence] for one in bins]
    assert [bar.get_height() for bar in axes.child_axes[0].patches] == [one.count for one in bins]
    assert sum(one.count for one in bins) == 10_000


def test_the_bin_that_a_reliability_diagram_names_is_the_one_that_adds_most():
    bins = [
        {"low": 0.0, "high": 0.5, "count": 10, "confidence": 0.4, "accuracy": 0.9},  # adds 5
        {"low": 0.5, "high": 1.0, "count": 90, "confidence": 0.8, "accuracy": 0.7},  # adds 9
    ]
    saved = SavedEvaluation.model_validate({"reliability": {"before": bins}})
    finding = reliability(saved.reliability.before, "before", 0.14).finding
    assert "ECE 0.1400" in finding and "90 images with mean confidence 80.0 % and accuracy 70.0 %" in finding


def test_a_confusion_matrix_writes_counts_and_tells_right_from_wrong_by_hue():
    counts = [[7, 0, 3], [0, 9, 1], [1, 0, 0]]
    plot = confusion_matrix(counts, ("a", "b", "c"))
    axes = drawn(plot)
    colours = axes.images[0].get_array()
    assert sorted(words(axes)) == ["1", "1", "3", "7", "9"]
    for row, column in np.ndindex(3, 3):
        red, _, blue, alpha = colours[row, column]
        if row == column:
            assert alpha == 1 and blue > red
        elif counts[row][column]:
            assert alpha == 1 and red > blue
        else:
            assert alpha == 0
    assert plot.finding.startswith("Confusion matrix of 3 classes: 76.19 % of 21 right.")
    assert "a taken for c, 3 of 10" in plot.finding


@pytest.mark.parametrize(("classes", "written", "named"), [(12, True, True), (20, False, True), (200, False, False)])
def test_a_large_confusion_matrix_is_one_picture_without_what_would_not_fit(classes, written, named):
    names = tuple(f"class {label}" for label in range(classes))
    axes = drawn(confusion_matrix(np.eye(classes, dtype=int).tolist(), names))
    assert axes.images[0].get_array().shape == (classes, classes, 4)
    assert bool(axes.texts) is written
    assert ("class 0" in [label.get_text() for label in axes.get_yticklabels()]) is named


def test_class_names_are_no_formulas(found):
    axes = drawn(confusion_matrix(found.confusion, found.classes))
    labels = axes.get_yticklabels()
    assert [label.get_text() for label in labels] == list(CLASSES)
    assert not any(label.get_parse_math() for label in labels)


def test_nothing_is_drawn_where_nothing_was_counted():
    assert confusion_matrix([], ()) is None
    assert confusion_matrix([[0, 0], [0, 0]], ()) is None
    assert reliability([], "before", None) is None
    assert detection([]) is None
    assert encoder_norms([]) is None
    assert members_at_inference([]) is None
    assert learning_curves([]) == []


def test_risk_and_coverage_mark_the_published_coverages(found):
    axes = drawn(risk_coverage(found.selective))
    curve, *dots = axes.lines
    assert curve.get_ydata().tolist() == list(found.selective.risk)
    for dot, coverage in zip(dots, (0.8, 0.9, 0.95), strict=True):
        assert dot.get_ydata()[0] == pytest.approx(np.interp(coverage, *curve.get_data()), abs=2e-3)


def test_the_heat_map_has_each_number_and_each_corruptions_mean(found):
    plot = robustness(found.robustness)
    table = 100 * np.array(found.robustness.top1)
    expected = [[f"{value:.1f}" for value in (*row, row.sum() / 5)] for row in table]
    assert np.array_equal(np.array(words(drawn(plot))).reshape(len(CORRUPTIONS), 6), expected)
    worst = CORRUPTIONS[table.mean(axis=1).argmin()].replace("_", " ")
    assert f"worst {table.mean(axis=1).min():.1f} % ({worst})" in plot.finding


def test_each_score_keeps_its_colour_in_every_foreign_data_set(found):
    axes = drawn(detection(found.ood))
    expected = [detector.auroc for one in found.ood for detector in one.detectors]
    assert [bar.get_width() for bar in axes.patches] == expected
    assert words(axes) == [f"{auroc:.4f}" for auroc in expected]
    colours = [bar.get_facecolor() for bar in axes.patches]
    assert colours[:4] == colours[:3:-1]  # the second data set names the scores in the opposite order
    assert len(set(colours)) == 4


def test_encoders_are_sorted_by_the_first_member_and_keep_filters_above_each_other():
    norms = [[1.0, 3.0, 2.0], [10.0, 20.5, 30.0]]
    plot = encoder_norms(norms)
    first, second = drawn(plot).lines
    assert first.get_ydata().tolist() == [3, 2, 1]
    assert second.get_ydata().tolist() == [20.5, 30, 10]
    assert (
        "member 1 10.00 to 30.00" in plot.finding and "Correlation of the norms between members: 0.52" in plot.finding
    )
    assert "Correlation" not in encoder_norms([[1.0, 1.0], [1.0, 2.0]]).finding  # undefined


def test_active_filters_are_bars_overall_and_lines_by_layer(looked):
    active = looked.active_filters
    assert [bar.get_height() for bar in drawn(active_filters(active)).patches] == list(active.share)
    lines = drawn(active_filters_by_layer(active)).lines
    assert [list(line.get_ydata()) for line in lines] == [
        [layer.share[number] for layer in active.layers] for number in range(len(active.thresholds))
    ]


def test_active_filters_are_defined_by_their_record_and_an_old_record_by_what_was_counted_then():
    counted = {"thresholds": [0.2], "share": [0.5], "layers": []}
    old = active_filters(FilterActivity.model_validate(counted))
    new = active_filters(FilterActivity.model_validate(counted | {"definition": DEFINITION}))
    assert "shortcuts included" in old.note and "at least" in old.note
    assert "shortcuts left out" in new.note and "above" in new.note and "mean over the trunk's layers" in new.note


def test_members_at_inference_show_mean_and_spread():
    looked = SavedInspection.model_validate(inspection(members=3))
    axes = drawn(members_at_inference(looked.top1_by_members))
    assert axes.lines[0].get_xydata().tolist() == [[one.members, one.top1] for one in looked.top1_by_members]
    spread = [segment[:, 1].tolist() for segment in axes.collections[0].get_segments()]
    assert spread == [[one.lowest, one.highest] for one in looked.top1_by_members]


# What training was to be


def test_the_warm_up_is_shaded_and_drawn_step_by_step():
    history = parse_history(epochs_of(30))
    plot = learning_rates(history, Planned(QUICK, DIGITS))
    axes = drawn(plot)
    assert "warm-up: 44 steps" in [text.get_text() for text in axes.figure.legends[0].get_texts()]
    (span,) = axes.patches
    assert (span.get_x(), span.get_width()) == (0, 1)  # epochs; an epoch has 44 steps
    schedule, dots = axes.lines
    x, rates = schedule.get_data()
    assert rates[0] == pytest.approx(0.1 / 44) and rates[43] == pytest.approx(0.1)
    assert np.all(np.diff(rates[:44]) > 0) and list(x[:2]) == pytest.approx([1 / 44, 2 / 44])
    assert list(dots.get_ydata()) == [row.learning_rate for row in history]
    assert "44 steps of 44 an epoch" in plot.finding


def test_a_learning_rate_of_which_no_schedule_is_known_is_what_was_noted():
    axes = drawn(learning_rates(parse_history(epochs_of(6))))
    assert len(axes.lines) == 1 and not axes.patches


def test_top1_has_the_interval_of_its_test_set():
    history = parse_history(epochs_of(6))
    (band,) = drawn(test_top1(history, 359)).collections
    low, high = wilson(history[-1].top1, 359)
    last = [y for x, y in band.get_paths()[0].vertices if x == 6]
    assert (min(last), max(last)) == pytest.approx((low, high))
    assert "(Wilson) of 359 test images" in test_top1(history, 359).note
    assert not drawn(test_top1(history)).collections


def test_a_single_epoch_is_dots_and_not_lines_that_nobody_sees():
    for plot in learning_curves(parse_history(epochs_of(1))):
        axes = drawn(plot)
        assert {line.get_marker() for line in axes.lines} == {"o"}, plot.title
        assert axes.get_xlim()[1] - axes.get_xlim()[0] >= 1
        assert [tick for tick in axes.get_xticks() if tick % 1] == []


# It can be read, by everybody


def luminance(colour: str) -> float:
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in to_rgb(colour)]
    return float(np.dot(linear, (0.2126, 0.7152, 0.0722)))


def contrast(one: str, other: str) -> float:
    """WCAG 2.2's, from 1 to 21."""
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def lab(colour: str, eye: np.ndarray) -> np.ndarray:
    """CIE L*a*b* of a colour as an eye sees it; `eye` is a matrix of linear RGB."""
    rgb = np.array([part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in to_rgb(colour)])
    rgb = np.clip(eye @ rgb, 0, 1)
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    x, y, z = np.cbrt(to_xyz @ rgb / to_xyz.sum(axis=1))
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


# Machado, Oliveira, Fernandes: A physiologically-based model for simulation of color vision deficiency, 2009.
EYES = {
    "usual": np.eye(3),
    "protanopia": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "deuteranopia": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
}


@THEMES
def test_words_and_lines_stand_out_from_the_paper(theme):
    for ground in (theme.paper, theme.surface):
        assert contrast(theme.text, ground) >= 7
        assert contrast(theme.quiet, ground) >= 4.5
        assert contrast(theme.accent, ground) >= 4.5  # links
    for colour in theme.members:
        assert contrast(colour, theme.paper) >= 3


@THEMES
@pytest.mark.parametrize("eye", EYES)
def test_members_and_right_and_wrong_stay_apart_for_every_eye(theme, eye):
    seen = [lab(colour, EYES[eye]) for colour in theme.members[:4]]
    assert min(np.linalg.norm(one - other) for one, other in combinations(seen, 2)) > 15
    for right, wrong in zip(theme.right[1:], theme.wrong[1:], strict=True):
        assert np.linalg.norm(lab(right, EYES[eye]) - lab(wrong, EYES[eye])) > 15


@pytest.mark.parametrize("colour", ["black", "white", "0.5", "#0b5c94", "#ee9a5f", "yellow", "blue"])
def test_ink_on_a_cell_is_the_one_of_more_contrast(colour):
    ink, other = ("white", "black") if is_dark(to_rgb(colour)) else ("black", "white")
    assert contrast(ink, colour) >= 0.98 * contrast(other, colour)


@pytest.fixture
def drawn_texts(monkeypatch) -> list[Text]:
    """Texts in the order in which they are put onto the canvas; matplotlib keeps others that never are."""
    texts = []
    draw = Text.draw

    def noted(text: Text, renderer) -> None:
        if text.get_visible() and text.get_text():
            texts.append(text)
        draw(text, renderer)

    monkeypatch.setattr(Text, "draw", noted)
    return texts


CASES = {
    "plain": (10, CLASSES, 2, 20, 12),
    "large": (100, (), 4, 300, 29),
    "crowded": (20, tuple(f"superclass of class {label}" for label in range(20)), 8, 70, 16),
}


@pytest.mark.parametrize("case", CASES)
def test_text_is_large_enough_whole_and_does_not_overlap(case, drawn_texts):
    classes, names, members, epochs, layers = CASES[case]
    found = SavedEvaluation.model_validate(evaluation(classes, names, members=members))
    looked = SavedInspection.model_validate(inspection(members, layers))
    for plot in all_plots(parse_history(epochs_of(epochs, members)), found, looked):
        figure = on_canvas(plot).get_figure()
        drawn_texts.clear()
        with themed(LIGHT):
            figure.canvas.draw()  # once, as for a file: a second time would mend a layout
        texts = list(drawn_texts)
        boxes = [text.get_window_extent() for text in texts]
        assert {text.get_fontsize() for text in texts if text.get_fontsize() < SMALL_PT} == set(), plot.title
        for text, box in zip(texts, boxes, strict=True):
            inside = figure.bbox.x0 - 1 <= box.x0 and box.x1 <= figure.bbox.x1 + 1
            inside &= figure.bbox.y0 - 1 <= box.y0 and box.y1 <= figure.bbox.y1 + 1
            assert inside, f"{plot.title}: {text.get_text()!r} is clipped"
        for (one, box), (other, second) in combinations(zip(texts, boxes, strict=True), 2):
            overlap_x = min(box.x1, second.x1) - max(box.x0, second.x0)
            overlap_y = min(box.y1, second.y1) - max(box.y0, second.y0)
            apart = overlap_x <= 1 or overlap_y <= 2  # of 100 dots an inch; boxes have room for descenders
            assert apart, f"{plot.title}: {one.get_text()!r} and {other.get_text()!r} overlap"


# As SVG and as PNG


def test_a_figure_is_the_same_bytes_every_time(found):
    plot = reliability(found.reliability.before, "before", 0.1)
    assert as_svg(plot, DARK) == as_svg(plot, DARK)
    assert as_svg(plot, DARK) != as_svg(plot, LIGHT)


def test_making_an_svg_small_moves_nothing_by_more_than_a_hundredth_of_a_point(found, monkeypatch):
    plot = confusion_matrix(found.confusion, found.classes)
    small = as_svg(plot, LIGHT)
    monkeypatch.setattr(drawing, "_compact", lambda svg: svg)
    whole = as_svg(plot, LIGHT)
    assert len(small) < 0.85 * len(whole)
    ours, theirs = (list(ElementTree.fromstring(svg).iter()) for svg in (small, whole))
    assert [element.tag for element in ours] == [element.tag for element in theirs]
    numbers = re.compile(r"-?\d+\.\d+|-?\d+")
    for one, other in zip(ours, theirs, strict=True):
        assert one.attrib.keys() == other.attrib.keys()
        for name, value in one.attrib.items():
            if name.endswith("href") or name == "id":
                assert value.split() == other.attrib[name].split()
            else:
                found_numbers, expected = (
                    list(map(float, numbers.findall(text))) for text in (value, other.attrib[name])
                )
                assert found_numbers == pytest.approx(expected, abs=0.01)


@pytest.fixture
def folder(tmp_path):
    """A run folder with all JSON that there is."""
    run = tmp_path / "run"
    run.mkdir()
    (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in epochs_of(6)))
    write_json(run / "evaluation.json", evaluation(images=500))
    write_json(run / "inspection.json", inspection())
    return run


ALL = (
    *("learning_curves", "members", "reliability", "confusion", "selective", "robustness", "ood"),
    *("encoders", "active_filters", "members_at_inference"),
)


def test_a_run_folder_gets_every_picture_that_there_are_numbers_for(folder):
    paths = write_plots(folder)
    assert paths == [folder / f"{name}.png" for name in ALL]
    first = {path: path.read_bytes() for path in paths}
    assert all(content.startswith(b"\x89PNG") for content in first.values())
    assert {path: path.read_bytes() for path in write_plots(folder)} == first
    assert {path.suffix for path in folder.iterdir()} == {".png", ".json", ".jsonl"}  # nothing temporary


def test_an_old_run_gets_what_its_metrics_have(folder):
    (folder / "evaluation.json").unlink()
    (folder / "inspection.json").unlink()
    rows = [{name: value for name, value in row.items() if name != "disagreement"} for row in epochs_of(3)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert [path.stem for path in write_plots(folder)] == ["learning_curves", "members"]


def test_members_of_an_old_run_are_drawn_from_an_inspection_of_its_checkpoints(folder):
    rows = epochs_of(4)
    old = [row | {"disagreement": None, "diversity": None} for row in rows]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in old))
    (folder / "evaluation.json").unlink()
    write_json(folder / "inspection.json", {"epochs": rows[1::2]})
    assert [path.stem for path in write_plots(folder)] == ["learning_curves", "members"]


def test_an_evaluation_in_a_folder_of_its_own_is_drawn_too(folder):
    (folder / "metrics.jsonl").unlink()
    (folder / "inspection.json").unlink()
    assert [path.stem for path in write_plots(folder)] == list(ALL[2:7])


def test_a_picture_that_cannot_be_written_is_one_line_and_leaves_nothing(folder):
    (folder / "confusion.png").mkdir()
    with pytest.raises(MixmoError, match=r"confusion\.png: cannot write: ") as error:
        write_plots(folder)
    assert "\n" not in str(error.value)
    assert not list(folder.glob(".*"))


def test_training_draws_the_same_learning_curves_as_the_report(folder):
    plot_learning_curves(parse_history(epochs_of(6)), "run", folder / "ours.png")
    write_plots(folder)
    assert (folder / "ours.png").read_bytes() == (folder / "learning_curves.png").read_bytes()


def test_a_finished_run_can_be_drawn(trained, tmp_path):
    copy = shutil.copytree(trained.run, tmp_path / "tiny")
    assert [path.stem for path in write_plots(copy)] == ["learning_curves", "members"]
