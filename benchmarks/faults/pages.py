"""Names that try to be more than text, in the records of runs: pages, tables and status show them as text alone."""

import io
import json
import random
import re
import unicodedata
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.faults.campaign import Campaign, Fault, outcome
from mixmo_fast.errors import MixmoError
from mixmo_fast.reproduce.reporting import write_comparison
from mixmo_fast.reproduce.status import show_status
from mixmo_fast.runfolder.names import CONFIG, ENVIRONMENT, EVALUATION, FAILED, METRICS, PAGE, SUMMARY

_TAGS = ("<script>alert(1)</script>", "</script><script>alert(1)</script>", "</title><b>", "</pre></code><i>")
_TAGS += ("--></style><b>", '"><img src=x onerror=alert(1)>', "' onmouseover='alert(1)", '" onload="alert(1)')
_TAGS += ("<svg/onload=alert(1)>", "<!--", "&lt;b&gt;", "&#60;", "javascript:alert(1)", "data:text/html,<b>")
_TEMPLATES = ("{{ 7 * 7 }}", "{% raw %}", "{{ ''.__class__.__mro__ }}", "${7*7}", "%s%n%d", "{0.__class__}", "%(x)s")
_TEMPLATES += ("{}", "{x!r}", "$\\frac{1}{0}$", "$", "^{", "\\x", "_")
_TERMINALS = ("\x1b[31mred\x1b[0m", "\x1b]0;title\x07", "\x1b[2J", "\x9b31m", "\b\b\b", "\r", "one\ntwo", "a\tb")
_TERMINALS += ("\x0b\x0c", "\x7f", "[red]x[/red]", "[/]", "[bold", "[link=file:///etc/passwd]x[/link]", ":smile:")
_LETTERS = ("\u202egnp", "\u2066x\u2069", "\u2028", "\ufeff", "\ud800", "\U0001f600" * 5, "e\u0301" * 50)
_LETTERS += ("\0", "\ufffe")
_MARKDOWN = ("a|b", "a\\|b", "|---|", "`code`", "``` \n```", "[x](javascript:alert(1))", "# head", "*a*_b_", "\\")
_SHELLS = ("x" * 5000, "x " * 2000, "../../x", "-rf", "$(id)", "; rm x", "'\"`$")
_TEXTS = (*_TAGS, *_TEMPLATES, *_TERMINALS, *_LETTERS, *_MARKDOWN, *_SHELLS)
_SUMMARY_KEYS = ("config", "dataset", "device", "precision", "pipeline")
_ENVIRONMENT_KEYS = ("device", "platform", "cpu_capability", "cuda", "command", "init", "versions", "step")
_EVALUATION_KEYS = ("classes", "checkpoint", "dataset", "precision", "ood", "robustness", "scaling")
_PLACES = (
    *(f"{SUMMARY} {key}" for key in _SUMMARY_KEYS),
    *(f"{ENVIRONMENT} {key}" for key in _ENVIRONMENT_KEYS),
    *(f"{EVALUATION} {key}" for key in _EVALUATION_KEYS),
    *("folder", FAILED, CONFIG),
)
_HARMLESS = "harmless"

_CODE = re.compile(r"^```\n.*?^```\n", re.DOTALL | re.MULTILINE)
_CELL_END = re.compile(r"(?<!\\)(?:\\\\)*\|")
_HTML = re.compile(r"(?<!\\)<[a-zA-Z/!?]")
_TABLE_LINES = 3  # heads, rule, and the one run


class HostileNames(Campaign):
    """Whatever a run, a class or a machine is called, a page has the same tags, and a terminal gets no commands."""

    name = "pages"
    title = "names with HTML, templates' and terminals' commands, in pages, tables and status"
    inputs = 300
    seconds = 90.0

    def prepare(self, small: Path) -> None:
        """Keeps a run's records, with an evaluation of few classes, whose figures are drawn quickly."""
        run = small / "runs" / "small"
        self.texts = {name: (run / name).read_text() for name in (CONFIG, METRICS)}
        self.records = {name: json.loads((run / name).read_text()) for name in (SUMMARY, ENVIRONMENT, EVALUATION)}
        evaluation = self.records[EVALUATION]
        for name in ("selective", "abstention", "reliability"):
            del evaluation[name]
        evaluation["confusion"] = [[5, 3, 2], [1, 8, 1], [2, 2, 6]]
        evaluation["classes"] = ["0", "1", "2"]
        self.tags: dict[tuple[str, bool], list[Counter[str]]] = {}

    def attempt(self, draw: random.Random, number: int, folder: Path) -> str:
        """Writes a run with a hostile name in one place, and its pages and tables, as with a harmless one."""
        text = "".join(draw.sample(_TEXTS, draw.choice((1, 1, 2))))
        place, is_single = draw.choice(_PLACES), draw.random() < 0.4
        if (place, is_single) not in self.tags:
            pages, _ = self._draw(folder / "usual", place, _HARMLESS, is_single)
            self.tags[place, is_single] = [_tags(page) for page in pages]
        made = outcome(lambda: self._draw(folder / "named", place, text, is_single))
        if isinstance(made, MixmoError):
            return "refused"
        pages, printed = made
        where = f"{place}: {text[:60]!r}"
        for page, expected in zip(pages, self.tags[place, is_single], strict=True):
            found = _tags(page)
            if found != expected:
                raise Fault("a name makes tags of a page", f"{where}: {dict((found - expected) + (expected - found))}")
        _check_printed(printed, where)
        if not is_single:
            _check_markdown((folder / "named" / "out" / "results.md").read_text(), where)
        return "shown"

    def _draw(self, folder: Path, place: str, text: str, is_single: bool) -> tuple[list[str], str]:
        """Pages, and what is printed beside them."""
        runs = folder / "runs"
        name = "small"
        if place == "folder":
            name = text.replace("/", "").replace("\0", "")[:60].strip(". ") or "x"
            name = name.encode("utf-8", "ignore").decode()
        run = runs / name
        self._write_run(run, place, text)
        printed = io.StringIO()
        console = Console(file=printed, force_terminal=False, width=160, markup=False, highlight=False, soft_wrap=True)
        show_status(runs, console)
        if is_single:
            write_comparison([run], console)
            pages = [run / PAGE]
        else:
            out = folder / "out"
            write_comparison([runs], console, out)
            pages = [out / PAGE]
        return [page.read_text() for page in pages], printed.getvalue()

    def _write_run(self, run: Path, place: str, text: str) -> None:
        """Writes what the place's figures and tables are made of, and little else."""
        run.mkdir(parents=True)
        records: dict[str, Any] = json.loads(json.dumps(self.records))
        file, _, key = place.partition(" ")
        if file == SUMMARY:
            records[SUMMARY][key] = text
        elif file == ENVIRONMENT:
            records[ENVIRONMENT] |= _of_environment(key, text)
        elif file == EVALUATION:
            records[EVALUATION] |= _of_evaluation(key, text, records[EVALUATION])
        elif file == FAILED:
            del records[SUMMARY]
            (run / FAILED).write_text(text, errors="replace")
        if file != EVALUATION:
            del records[EVALUATION]
        for name, record in records.items():
            (run / name).write_text(json.dumps(record))
        comment = f"# {' '.join(text.splitlines())}\n" if file == CONFIG else ""
        (run / CONFIG).write_text(self.texts[CONFIG] + comment, errors="replace")
        if file in ("folder", FAILED, CONFIG):  # where curves are drawn, which takes most of the time
            (run / METRICS).write_text(self.texts[METRICS])


def _of_environment(key: str, text: str) -> dict[str, Any]:
    """The fields that are others where a machine or a command is called so."""
    match key:
        case "command":
            return {key: ["mixmo-fast", "train", text]}
        case "init":
            return {key: {"path": text, "sha256": text, "optimizer": True}}
        case "versions" | "step":
            return {key: {text: text, "other": text}}
    return {key: text}


def _of_evaluation(key: str, text: str, evaluation: dict[str, Any]) -> dict[str, Any]:
    """The fields that are others where a class, a data set or a corruption is called so."""
    match key:
        case "classes":
            return {key: [text, f"x{text}", f"{text}x"]}
        case "ood":
            return {key: [{"dataset": text, "images": 3, "detectors": [{"name": text, "auroc": 0.5}]}]}
        case "robustness":
            found = {"source": text, "corruptions": [text, f"x{text}"], "severities": [1, 2], "mce_against": text}
            return {key: found | {"top1": [[0.5, 0.4], [0.3, 0.2]], "mean_top1": 0.35, "mce": 0.9}}
        case "scaling":
            return {"temperature_scaling": evaluation["temperature_scaling"] | {"calibrated_on": text}}
    return {key: text}


class _Tags(HTMLParser):
    """Counts what a page has besides text: tags, attributes, and addresses that are not its own pictures."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.counts[tag] += 1
        for name, value in attributes:
            self.counts[f"{tag} {name}"] += 1
            is_address = name in ("href", "src", "srcset") and value is not None
            if is_address and ":" in value and not value.startswith(("data:,", "data:image/")):
                self.counts[f"an address {value[:60]}"] += 1

    def handle_comment(self, data: str) -> None:
        self.counts["comment"] += 1


def _tags(page: str) -> Counter[str]:
    tags = _Tags()
    tags.feed(page)
    tags.close()
    return tags.counts


def _check_printed(printed: str, where: str) -> None:
    for line in printed.split("\n"):
        if bad := [one for one in line if unicodedata.category(one) == "Cc"]:
            raise Fault("a terminal is sent control characters", f"{where}: {bad[0]!r} in {line.strip()[:100]!r}")


def _check_markdown(text: str, where: str) -> None:
    """Demands tables of equal rows, and nothing that a reader of Markdown would take for HTML, outside of code."""
    if bad := [one for one in text if unicodedata.category(one) == "Cc" and one != "\n"]:
        raise Fault("a table has control characters", f"{where}: {bad[0]!r}")
    if _CODE.sub("", text).count("```"):
        raise Fault("a name ends a block of code", where)
    cells = [len(_CELL_END.findall(line)) for line in text.splitlines() if line.startswith("|")]
    if len(cells) != _TABLE_LINES or len(set(cells)) > 1:
        raise Fault("a name breaks a table", f"{where}: cells {cells}")
    if _HTML.search(_CODE.sub("", text)):
        raise Fault("a name is HTML in a Markdown file", where)
