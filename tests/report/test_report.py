"""The page of a run: whole, self-contained, true to its files, and as a browser shows it."""

import base64
import hashlib
import json
import re
import shlex
import shutil
import string
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from browser import DESK, PHONE, Browser, find_browser
from hypothesis import given
from hypothesis import strategies as st
from jinja2 import UndefinedError
from PIL import Image
from places import REPOSITORY
from sample_reproduction import finish, reproduction, row_of
from sample_run import CLASSES, evaluation, inspection, write_json

from mixmo_fast.config.load import load_config
from mixmo_fast.errors import MixmoError
from mixmo_fast.report.colours import DARK, LIGHT
from mixmo_fast.report.drawing import Plot
from mixmo_fast.report.page import templates
from mixmo_fast.report.run_report import recipe_line, write_report

RECIPE = [("How <images> are mixed", "First & foremost.\n  a  1\n  b  2\nThen.")]
NAME = "<b>run</b> & \"co\" 'x'"
CONFIGS = REPOSITORY / "configs"
PAGES = ("full", "trained", "old")
SCRIPT = (REPOSITORY / "mixmo_fast/report/templates/page.js").read_text()
VOID = {"meta", "link", "img", "source", "br"}


class Outline(HTMLParser):
    """A page taken apart: tags must be closed in order."""

    def __init__(self, text: str):
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.text: list[str] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not {"script", "style"} & set(self.open) and data.strip():
            self.text.append(data.strip())

    def all(self, tag: str) -> list[dict]:
        return [attributes for name, attributes in self.tags if name == tag]

    def widths(self) -> list[list[int]]:
        """Of each table the number of cells in each of its rows."""
        tables: list[list[int]] = []
        for tag, _ in self.tags:
            if tag == "table":
                tables.append([])
            elif tag == "tr":
                tables[-1].append(0)
            elif tag in ("th", "td"):
                tables[-1][-1] += 1
        return tables


@pytest.fixture(scope="module")
def runs(trained, tmp_path_factory) -> dict[str, Path]:
    """Run folders with everything, with what training leaves, and with what the oldest runs have."""
    place = tmp_path_factory.mktemp("runs")
    full = shutil.copytree(trained.run, place / "full")
    summary = json.loads((full / "summary.json").read_text())
    write_json(full / "summary.json", summary | {"config": NAME})
    write_json(full / "evaluation.json", evaluation())
    write_json(full / "inspection.json", inspection())
    old = place / "old"
    old.mkdir()
    for score in ("disagreement",):
        summary["last"].pop(score, None)
        summary["best_on_test"].pop(score, None)
    write_json(old / "summary.json", summary)
    rows = [json.loads(line) for line in (full / "metrics.jsonl").read_text().splitlines()]
    kept = [{name: value for name, value in row.items() if name != "disagreement"} for row in rows]
    (old / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in kept))
    return {"full": full, "trained": shutil.copytree(trained.run, place / "trained"), "old": old}


@pytest.fixture(scope="module")
def pages(runs) -> dict[str, Path]:
    return {name: write_report(folder, RECIPE if name == "full" else ()) for name, folder in runs.items()}


@pytest.fixture
def folder(runs, tmp_path, monkeypatch) -> Path:
    """A copy of the fullest run, to be spoilt, and with figures that take no time to draw."""
    monkeypatch.setattr("mixmo_fast.report.page.as_svg", lambda plot, theme: "<svg/>")
    return shutil.copytree(runs["full"], tmp_path / "run", ignore=shutil.ignore_patterns("report.html"))


def outline(page: Path) -> Outline:
    return Outline(page.read_text(encoding="utf-8"))


def headings(page: Path) -> list[str]:
    return re.findall(r"<h2 [^>]*>(.*?)</h2>", page.read_text())


# What is on it


def test_every_section_is_there_where_the_files_have_it_and_not_where_they_do_not(pages):
    end = ["Configuration", "How to repeat it", "Environment"]
    assert headings(pages["full"]) == [
        *("Results", "Training", "Members", "Calibration", "Confusion", "Selective prediction", "Robustness"),
        *("Out of distribution", "Inside the network", "What the network was given", "The recipe in plain words"),
        *end,
    ]
    assert headings(pages["trained"]) == ["Results", "Training", "Members", "What the network was given", *end]
    assert headings(pages["old"]) == ["Results", "Training", "Members", "Environment"]


def test_the_last_epoch_and_the_best_on_test_are_told_apart(runs, pages):
    summary = json.loads((runs["trained"] / "summary.json").read_text())
    text = outline(pages["trained"]).text
    for label, scores in (("Top-1, last epoch", summary["last"]), ("Top-1, best on test", summary["best_on_test"])):
        assert text[text.index(label) + 1] == f"{100 * scores['top1']:.2f} %"
    best = text[text.index("Top-1, best on test") + 2]
    assert f"epoch {summary['best_on_test']['epoch']}," in best and "test" in best
    assert text[text.index("NLL") + 1] == f"{summary['last']['nll']:.4f}"
    assert text[text.index("ECE") + 1] == f"{summary['last']['ece']:.4f}"
    assert text[text.index("Rows a second") + 1] == f"{summary['rows_per_second']:,.0f}"
    peak = summary["peak_memory"]["process_peak_resident_bytes"]
    amount, says = text[text.index("Peak memory") + 1 :][:2]
    assert amount == f"{peak / 1e9:.1f} GB" and "of the process" in says and "GPU" not in says


def test_an_evaluation_of_another_checkpoint_has_a_column_of_its_own(runs, folder):
    found = json.loads((folder / "evaluation.json").read_text())
    assert "Evaluated: last" in outline(write_report(folder)).text
    write_json(folder / "evaluation.json", found | {"ensemble": "probabilities"})
    assert "Evaluated: last, probabilities averaged" in outline(write_report(folder)).text
    last = json.loads((folder / "summary.json").read_text())["last"]
    write_json(folder / "evaluation.json", found | last)
    assert not [text for text in outline(write_report(folder)).text if text.startswith("Evaluated")]


def test_the_most_frequent_errors_are_counted_right(runs, pages):
    counts = np.array(json.loads((runs["full"] / "evaluation.json").read_text())["confusion"])
    np.fill_diagonal(counts, 0)
    true, taken = np.unravel_index(counts.argmax(), counts.shape)
    text = outline(pages["full"]).text
    start = text.index("Most frequent errors") + 5
    share = f"{100 * counts[true, taken] / 1000:.2f} %"
    assert text[start : start + 4] == [CLASSES[true], CLASSES[taken], str(counts[true, taken]), share]


def test_recall_and_precision_of_a_class_are_counted_by_hand(folder):
    found = {"confusion": [[6, 2], [1, 3]], "classes": ["cat", "dog"]}
    write_json(folder / "evaluation.json", found)
    text = outline(write_report(folder)).text
    start = text.index("Each class") + 6
    assert text[start : start + 5] == ["cat", "8", "75.00 %", "85.71 %", "dog"]


def test_a_run_that_has_not_ended_or_not_begun_says_so(folder):
    (folder / "summary.json").unlink()
    text = " ".join(outline(write_report(folder)).text)
    assert "has not ended" in text and "4 epochs" in text
    rows = [{"epoch": 1, "learning_rate": 0.1, "train_loss": 4.0}]
    (folder / "metrics.jsonl").write_text(json.dumps(rows[0]) + "\n")
    text = " ".join(outline(write_report(folder)).text)
    assert "No epoch has been evaluated yet." in text and "1 of 4 epochs so far" in text


def test_a_ratio_of_errors_without_a_shared_error_is_said_to_be_one(folder):
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    none = {"diversity": None}
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row | none) + "\n" for row in rows))
    summary = json.loads((folder / "summary.json").read_text())
    write_json(folder / "summary.json", summary | {"last": rows[-1] | none})
    text = outline(write_report(folder)).text
    at = text.index("Diversity: one of two wrong / both wrong")
    assert text[at + 1] == "no shared error"
    assert text[at + 2] == f"{summary['best_on_test']['diversity']:.4f}"


def test_keys_may_be_null_or_missing(folder):
    nothing = {"reliability": None, "confusion": [], "temperature_scaling": None, "selective": None, "robustness": None}
    write_json(folder / "evaluation.json", nothing | {"ood": [], "top1": None})
    write_json(folder / "inspection.json", {"encoder_l1": [], "active_filters": None})
    write_json(folder / "environment.json", {"cuda": None})
    write_json(folder / "summary.json", {"last": None, "best_on_test": None})
    (folder / "first_batch.png").unlink()
    assert headings(write_report(folder)) == ["Results", "Training", "Members", "Configuration", "How to repeat it"]


def test_passages_keep_their_lines_and_their_tables(pages):
    text = pages["full"].read_text()
    assert "<h3>How &lt;images&gt; are mixed</h3>" in text
    assert "<p>First &amp; foremost.</p>" in text and "<p>Then.</p>" in text
    assert "<code>a  1\nb  2</code>" in text


@pytest.mark.parametrize(
    ("command", "ranks", "shown"),
    [
        (["/venv/bin/mixmo-fast", "train", "a b.yaml"], 1, "mixmo-fast train 'a b.yaml'"),
        (["/x/mixmo_fast/__main__.py", "train", "c.yaml"], 1, "python -m mixmo_fast train c.yaml"),
        (["/x/mixmo_fast/__main__.py", "train"], 8, "torchrun --nproc-per-node=8 -m mixmo_fast train"),
        (["/usr/bin/pytest", "tests"], 1, None),
    ],
)
def test_the_command_can_be_pasted_into_a_shell(folder, command, ranks, shown):
    write_json(folder / "environment.json", {"command": command, "ranks": ranks})
    text = outline(write_report(folder)).text
    if shown is None:
        assert "The command of this run:" not in text
    else:
        assert text[text.index("The command of this run:") + 1] == shown
        assert shlex.split(shown)[-len(command) + 1 :] == command[1:]
    copy, train, evaluate = next(one for one in text if one.startswith("cp ")).splitlines()
    assert shlex.split(copy) == ["cp", str(folder / "config.yaml"), f"{NAME}.yaml"]
    assert shlex.split(train)[:3] == ["mixmo-fast", "train", f"{NAME}.yaml"]
    assert shlex.split(evaluate)[2] == f"again/{NAME}"


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("cifar100/*.yaml")), ids=lambda path: path.stem)
def test_the_lead_names_the_recipe_of_the_published_runs(path):
    line = recipe_line(load_config(path))
    names = {"1net": "A single network", "mimo": "MIMO", "linearmixmo": "Linear-MixMo", "cowmixmo": "MixMo with cow"}
    method = re.search(r"1net|linearmixmo|cutmixmo|cowmixmo|mimo", path.stem).group()
    assert line.startswith(names.get(method, "Cut-MixMo"))
    assert ("CutMix augmentation" in line) is ("msdacutmix" in path.stem)
    assert "wide ResNet 28-10" in line and "cifar100" in line and "300 epochs" in line


# It is one file, the same every time, and safe


@pytest.mark.parametrize("name", PAGES)
def test_the_page_is_well_formed_and_needs_nothing_else(pages, name):
    found = outline(pages[name])
    for tag, attributes in found.tags:
        for attribute in ("src", "srcset", "href", "data", "poster", "action"):
            value = attributes.get(attribute, "data:,")
            assert value.startswith(("data:", "#")), (tag, value[:80])
        assert not any(attribute.startswith("on") or attribute == "style" for attribute in attributes)
    assert not re.search(r"@import|url\(|https?://", pages[name].read_text())
    assert pages[name].stat().st_size < 2_000_000
    ids = [attributes["id"] for _, attributes in found.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    links = [one["href"][1:] for one in found.all("a")]
    assert set(links) <= set(ids)
    assert len(links) == (0 if len(found.all("section")) < 4 else len(found.all("section")))


def test_the_policy_allows_the_script_of_the_page_and_nothing_from_elsewhere(pages):
    text = pages["full"].read_text()
    assert text.count("<script") == 1 and f"<script>{SCRIPT}</script>" in text
    policy = outline(pages["full"]).all("meta")[1]["content"]
    digest = base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()
    assert policy.startswith("default-src 'none';") and policy.endswith(f"; script-src 'sha256-{digest}'")


def test_names_are_text_and_never_markup(pages):
    found = outline(pages["full"])
    assert NAME in found.text  # the heading
    assert CLASSES[2] in found.text
    assert found.all("b") == []


def test_a_figure_has_a_picture_for_each_theme_in_its_colours(pages):
    found = outline(pages["full"])
    dark = [source["srcset"] for source in found.all("source")]
    light = [image["src"] for image in found.all("img") if "svg" in image["src"][:20]]
    assert len(dark) == len(light) >= 15
    for urls, theme, other in ((dark, DARK, LIGHT), (light, LIGHT, DARK)):
        for url in urls:
            svg = base64.b64decode(url.partition("base64,")[2]).decode()
            assert svg.startswith("<svg") and theme.text in svg and other.text not in svg


@pytest.mark.parametrize("name", PAGES)
def test_every_row_of_a_table_has_a_cell_for_each_title(pages, name):
    widths = outline(pages[name]).widths()
    assert len(widths) == {"full": 8, "trained": 2, "old": 2}[name]
    assert all(len(table) > 1 and len(set(table)) == 1 for table in widths)


@pytest.mark.parametrize("name", PAGES)
def test_every_figure_says_in_numbers_what_it_shows(pages, name):
    images = outline(pages[name]).all("img")
    assert len(images) >= 4
    for image in images:
        assert len(image["alt"]) > 30 and not re.search(r"nan|None", image["alt"])
        assert re.search(r"\d", image["alt"]) or "training step" in image["alt"]
        assert int(image["width"]) > 0 and int(image["height"]) > 0


def test_the_same_files_make_the_same_page(runs, pages):
    first = pages["full"].read_bytes()
    assert write_report(runs["full"], RECIPE).read_bytes() == first
    assert {path.name for path in runs["full"].glob(".*")} <= {".lock"}


DAMAGES = {
    "cut off": lambda text: text[: len(text) // 2],
    "a list": lambda text: "[1, 2]\n",
    "another type": lambda text: re.sub(r'"epochs?": (\d+|\[)', '"epoch": "many", "epochs": "many", "x": \\1', text),
    "not a number": lambda text: text.replace("0.", "NaN, 0.", 1),
    "empty": lambda text: "\n",
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("file", ["summary.json", "metrics.jsonl", "evaluation.json", "inspection.json"])
def test_a_damaged_file_is_one_line_that_names_it_and_the_old_page_stays(folder, file, damage):
    page = folder / "report.html"
    page.write_text("the old page")
    (folder / file).write_text(DAMAGES[damage]((folder / file).read_text()))
    with pytest.raises(MixmoError) as error:
        write_report(folder)
    assert str(error.value).startswith(f"{folder / file}: ") and "\n" not in str(error.value)
    assert len(str(error.value)) < 400 + len(str(folder))
    assert page.read_text() == "the old page"


@pytest.mark.parametrize(
    ("file", "key", "value", "says"),
    [
        ("evaluation.json", "confusion", [[1, 2], [3]], "confusion matrix of 2 rows"),
        ("evaluation.json", "confusion", [[1]], "10 classes; allowed: none, or 1"),
        ("evaluation.json", "selective", {"coverage": [1.0], "risk": []}, "1 coverages and 0 risks"),
        ("inspection.json", "encoder_l1", [[1.0], [1.0, 2.0]], "encoder_l1 of different lengths"),
        ("inspection.json", "active_filters", {"thresholds": [0.2], "share": []}, "0 shares"),
        ("environment.json", "threads", "two", "threads: Input should be a valid integer"),
    ],
)
def test_numbers_that_do_not_fit_together_are_refused(folder, file, key, value, says):
    content = json.loads((folder / file).read_text())
    write_json(folder / file, content | {key: value})
    with pytest.raises(MixmoError, match=re.escape(says)) as error:
        write_report(folder)
    assert str(error.value).startswith(f"{folder / file}: ")


def test_other_damages_are_one_line_too(folder, tmp_path):
    with pytest.raises(MixmoError, match="not a run folder"):
        write_report(tmp_path / "nowhere")
    picture = folder / "first_batch.png"
    picture.write_bytes(picture.read_bytes()[:1000])
    with pytest.raises(MixmoError, match=r"first_batch\.png: not a whole PNG"):
        write_report(folder)
    picture.unlink()
    (folder / "config.yaml").write_text("data: {dataset: digits}\nnetwork: {kind")
    with pytest.raises(MixmoError, match=r"config\.yaml"):
        write_report(folder)
    (folder / "config.yaml").write_bytes(b"\xff\xfe")
    with pytest.raises(MixmoError, match=r"config\.yaml"):
        write_report(folder)


def test_a_page_that_cannot_be_written_is_one_line(folder):
    (folder / "report.html").mkdir()
    with pytest.raises(MixmoError, match=r"report\.html: cannot write"):
        write_report(folder)


# Its parts


TEXT = st.text(st.sampled_from("<>&\"'`=/ \\{}$" + string.ascii_letters), min_size=1).filter(lambda text: text.strip())


PARTS = """
{% extends "page.html" %}
{% from "parts.html" import beside, card, code, marks, number, table %}
{% set content %}
<p>{{ one }}</p>
{% call card(one, two) %}{{ three }}{% endcall %}
{% call table(one, [two, three]) %}<tr><th>{{ three }}{{ marks([two]) }}</th>{{ number(one) }}</tr>{% endcall %}
{{ beside([plot]) }}
{{ code(one, two) }}
{% endset %}
{% set sections = [("a", three, content)] %}
"""


@given(TEXT, TEXT, TEXT)
def test_any_text_comes_out_as_it_went_in(one, two, three):
    plot = Plot(title=one, finding=two, note=three, draw=lambda axes, theme: None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mixmo_fast.report.page.as_svg", lambda plot, theme: "<svg/>")
        page = templates().from_string(PARTS).render(title=one, lead=[two], one=one, two=two, three=three, plot=plot)
    found = Outline(page)
    expected = [one, one, two, three, one, one, two, three, one, two, three, three, two, one, three, one]
    assert found.text == [text.strip() for text in expected]
    assert found.all("img")[0]["alt"] == two


def test_a_name_that_a_template_does_not_know_is_an_error():
    with pytest.raises(UndefinedError, match="'scroes' is undefined"):
        templates().from_string("{% for one in scroes %}{{ one }}{% endfor %}").render(scores=[1])


# What a run is a part of


@pytest.mark.parametrize(("scale", "epochs"), [(0.01, 1), (0.2, 6)])
def test_a_run_of_a_part_of_its_schedule_says_so_as_does_one_whose_patches_have_decayed(tmp_path, scale, epochs):
    (run,) = reproduction(tmp_path, (str(CONFIGS / "quickstart.yaml"),), (1,), scale).runs
    folder = run.folder(tmp_path)
    finish(folder, run.config, [row_of(epoch, 0.5, 2) for epoch in range(1, epochs + 1)])
    text = " ".join(outline(write_report(folder)).text)
    assert f"shortened schedule: {epochs} of 30 epochs" in text
    assert ("the probability of patch masks, 0.5, has decayed to 0: all rows are mixed with linear" in text) is (
        epochs == 1
    )
    assert ("1 epoch." in text) is (epochs == 1)


def test_a_run_under_a_published_name_knows_the_length_of_the_published_schedule(tmp_path):
    (run, *_) = reproduction(tmp_path, ("cifar10",), (1,), 0.01).runs
    alone = tmp_path / "alone" / run.name
    finish(alone, run.config, [row_of(epoch, 0.5) for epoch in (1, 2, 3)])
    assert "shortened schedule: 3 of 300 epochs" in outline(write_report(alone)).text


def test_a_run_of_its_whole_schedule_has_no_such_mark(pages):
    assert "shortened schedule" not in pages["trained"].read_text()
    assert "has decayed" not in pages["trained"].read_text()


@pytest.mark.parametrize("text", ["{", "[1, 2]", '{"runs": [{"seed": 1}]}'])
def test_a_file_of_a_plans_name_that_is_none_does_not_keep_a_run_from_its_page(tmp_path, text):
    (run,) = reproduction(tmp_path, (str(CONFIGS / "quickstart.yaml"),), (1,), 0.2).runs
    finish(run.folder(tmp_path), run.config, [row_of(1, 0.5, 2)])
    (tmp_path / "plan.json").write_text(text)
    assert "shortened schedule" not in write_report(run.folder(tmp_path)).read_text()


def test_scores_of_foreign_images_are_written_as_the_table_of_scores_says(pages):
    text = outline(pages["full"]).text
    start = text.index("max probability")
    assert text[start + 1 : start + 4] == ["0.8800", "32.00 %", "0.8600"]


def test_names_that_would_turn_text_around_are_spelt_out(folder):
    summary = json.loads((folder / "summary.json").read_text())
    write_json(folder / "summary.json", summary | {"config": "\u202egnorw" + "long" * 90})
    text = write_report(folder).read_text()
    assert "\u202e" not in text and "\\u202egnorw" in text


# In a browser


@pytest.fixture(scope="module")
def browser(tmp_path_factory) -> Browser:
    program = find_browser()
    if program is None:
        pytest.skip("no Chromium is installed")
    return Browser(program, tmp_path_factory.mktemp("browser"))


SHAPE = """
const seen = [...document.querySelectorAll("h1, h2, p, dd, dt, figcaption, nav, figure, pre, .scroll")];
return {
  width: innerWidth,
  page: document.documentElement.scrollWidth,
  paper: getComputedStyle(document.body).backgroundColor,
  images: [...document.images].map(image => [image.complete, image.naturalWidth, image.getBoundingClientRect().width]),
  dark: [...document.querySelectorAll("picture")].map(picture =>
    picture.querySelector("img").currentSrc === picture.querySelector("source").srcset),
  outside: seen.filter(one => one.offsetParent && one.getBoundingClientRect().right > innerWidth + 0.5)
    .map(one => one.outerHTML.slice(0, 100)),
  fetched: performance.getEntriesByType("resource").map(one => one.name.slice(0, 40))
    .filter(name => !name.startsWith("data:")),
};
"""


def as_css(colour: str) -> str:
    return "rgb({}, {}, {})".format(*(int(colour[start : start + 2], 16) for start in (1, 3, 5)))


FIRST = """
const box = document.querySelector(".cards .value").getBoundingClientRect();
return [box.right, box.bottom, document.documentElement.scrollWidth, document.documentElement.clientWidth];
"""


@pytest.mark.browser
@pytest.mark.parametrize("size", [PHONE, DESK], ids=["phone", "desk"])
@pytest.mark.parametrize("name", PAGES)
def test_the_first_score_is_on_the_first_screen(browser, pages, name, size):
    (right, bottom, scrolled, shown), _ = browser.measure(pages[name], FIRST, size)
    assert right <= shown and bottom <= size[1] and scrolled <= shown


@pytest.mark.browser
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("size", [PHONE, DESK], ids=["phone", "desk"])
@pytest.mark.parametrize("name", PAGES)
def test_a_page_fits_its_window_shows_all_images_and_follows_the_theme(browser, pages, name, size, dark):
    found, console = browser.measure(pages[name], SHAPE, size, dark)
    assert console == []
    assert found["width"] == size[0]
    assert found["page"] <= size[0]
    assert found["outside"] == []
    assert found["fetched"] == []
    assert found["paper"] == as_css((DARK if dark else LIGHT).paper)
    assert len(found["images"]) >= 4
    assert all(complete and natural > 0 and shown > 250 for complete, natural, shown in found["images"])
    assert set(found["dark"]) == {dark}


SORTABLE = """
{% extends "page.html" %}
{% from "parts.html" import number, table %}
{% set runs %}
{% call table("Runs", ["Run", "Top-1"], sortable=true) %}
{% for name, top1 in values %}
<tr><th>{{ name }}</th>{{ number("unknown" if top1 is none else top1, top1) }}</tr>
{% endfor %}
{% endcall %}
{% endset %}
{% set sections = [("runs", "Runs", runs)] %}
"""


@pytest.mark.browser
def test_on_a_phone_the_contents_fade_where_they_scroll_and_the_last_is_clear_at_the_end(browser, pages):
    script = """
    const nav = document.querySelector("nav");
    const fades = getComputedStyle(nav).maskImage !== "none";
    nav.scrollLeft = nav.scrollWidth;
    const gap = nav.getBoundingClientRect().right - nav.querySelector("li:last-child").getBoundingClientRect().right;
    return [fades, nav.scrollWidth > nav.clientWidth, gap];
    """
    (fades, scrolls, gap), _ = browser.measure(pages["full"], script, PHONE)
    assert fades and scrolls and gap > 47  # pixels of the fading
    (fades, scrolls, _), _ = browser.measure(pages["full"], script, DESK)
    assert not fades and not scrolls


@pytest.mark.browser
def test_a_table_is_sorted_by_a_click_and_what_is_missing_stays_last(browser, tmp_path):
    page = tmp_path / "table.html"
    values = [("run 9", 9), ("run 10", None), ("run 11", 10)]
    page.write_text(templates().from_string(SORTABLE).render(title="Runs", lead=[], values=values), encoding="utf-8")
    script = """
    const buttons = [...document.querySelectorAll("th button")];
    const order = () => [...document.querySelectorAll("tbody tr")].map(row => row.cells[0].textContent);
    const heads = () => [...document.querySelectorAll("thead th")].map(head => head.getAttribute("aria-sort"));
    const found = [[heads(), order()]];
    for (const button of [buttons[1], buttons[1], buttons[0], buttons[0]]) {
      button.click();
      found.push([heads(), order()]);
    }
    buttons[1].focus();
    found.push([buttons.map(button => button.tabIndex), document.activeElement === buttons[1]]);
    return found;
    """
    found, console = browser.measure(page, script)
    assert console == []
    assert found == [
        [["none", "none"], ["run 9", "run 10", "run 11"]],
        [["none", "descending"], ["run 11", "run 9", "run 10"]],
        [["none", "ascending"], ["run 9", "run 11", "run 10"]],
        [["ascending", "none"], ["run 9", "run 10", "run 11"]],  # as numbers within words, not as letters
        [["descending", "none"], ["run 11", "run 10", "run 9"]],
        [[0, 0], True],
    ]


@pytest.mark.browser
def test_a_script_that_is_not_the_pages_own_does_not_run(browser, pages, tmp_path):
    page = tmp_path / "attacked.html"
    text = pages["old"].read_text(encoding="utf-8")
    attack = '<script>document.title = "attacked"</script><img src="https://example.org/x.png" onerror="alert(1)">'
    page.write_text(text.replace("</main>", f"{attack}</main>"), encoding="utf-8")
    found, console = browser.measure(page, "return document.title")
    assert found == "tiny"
    assert sum("Content Security Policy" in line for line in console) >= 2


@pytest.mark.browser
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_a_screenshot_has_the_themes_paper_and_something_on_it(browser, pages, dark):
    with Image.open(browser.screenshot(pages["full"], PHONE, dark)) as picture:
        pixels = np.asarray(picture.convert("RGB"))
    assert pixels.shape == (PHONE[1], PHONE[0], 3)
    paper = np.array([int((DARK if dark else LIGHT).paper[start : start + 2], 16) for start in (1, 3, 5)])
    is_paper = (pixels == paper).all(axis=2)
    assert 0.3 < is_paper.mean() < 0.95
    assert is_paper[:, :4].all()  # the margin


@pytest.mark.browser
def test_on_paper_the_page_is_light_whatever_its_reader_prefers(browser, pages):
    printed = browser.print(pages["full"])
    assert printed.startswith(b"%PDF") and len(printed) > 50_000
    script = """
    const [sheet] = document.styleSheets;
    const media = [...sheet.cssRules].filter(rule => rule.media).map(rule => rule.media.mediaText);
    const sources = [...document.querySelectorAll("source")].map(one => one.media);
    return [media, [...new Set(sources)]];
    """
    (media, sources), _ = browser.measure(pages["full"], script)
    assert sources == ["screen and (prefers-color-scheme: dark)"]
    assert sources[0] in media and "print" in media
