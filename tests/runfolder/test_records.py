"""A run folder's files are written as they are read, key by key and byte by byte, and those of before still are."""

import json
from pathlib import Path

import pytest
import torch
from places import REPOSITORY

from mixmo_fast.errors import DataError
from mixmo_fast.evaluation.metrics import evaluate_logits
from mixmo_fast.report.run_files import read_run
from mixmo_fast.run.evaluate import Evaluation
from mixmo_fast.run.inspect import inspect_run
from mixmo_fast.runfolder.evaluated import SavedEvaluation, SavedInspection
from mixmo_fast.runfolder.history import as_json, best_epoch, from_json, read_history
from mixmo_fast.runfolder.names import EVALUATION, METRICS, is_run_folder, remove_run
from mixmo_fast.runfolder.record import read_record, write_record
from mixmo_fast.runfolder.records import Environment, Epoch, PeakMemory, RunSummary
from mixmo_fast.runfolder.scores import SCORES, definition, ensemble_scores

KEPT = Path(__file__).parent / "run_of_0_1"  # by the version of that number, on the digits; its curve is thinned
REHEARSAL = REPOSITORY / "benchmarks" / "results" / "rehearsal_fashion_mnist" / "runs"
FILES = [
    ("summary.json", RunSummary, 1),
    ("environment.json", Environment, 1),
    ("evaluation.json", SavedEvaluation, None),
    ("inspection.json", SavedInspection, None),
]


@pytest.mark.parametrize(("name", "kind", "indent"), FILES, ids=[name for name, *_ in FILES])
def test_a_record_that_was_read_is_written_with_the_same_bytes(tmp_path, name, kind, indent):
    write_record(tmp_path / name, read_record(KEPT / name, kind), indent)
    assert (tmp_path / name).read_bytes() == (KEPT / name).read_bytes()


@pytest.mark.parametrize("run", [KEPT, *sorted(REHEARSAL.glob("*/*"))], ids=lambda run: f"{run.parent.name}/{run.name}")
def test_runs_of_before_are_read_whole_and_their_epochs_kept_to_the_last_byte(run):
    assert is_run_folder(run) and read_run(run).summary.last.top1 == read_history(run)[-1].top1
    history = from_json(as_json(read_history(run)), "x")
    assert "".join(json.dumps(epoch.as_dict()) + "\n" for epoch in history) == (run / METRICS).read_text()


def keys(content: object) -> object:
    """All the keys of some JSON, in their order; of a list those of its first item."""
    if isinstance(content, dict):
        return [(name, keys(value)) for name, value in content.items()]
    return keys(content[0]) if isinstance(content, list) and content else None


def kept_keys(name: str) -> object:
    return keys(json.loads((KEPT / name).read_text()))


NEW = (
    *("abstention", "data", "peak_memory", *PeakMemory.model_fields, "graph_required", "cudnn_benchmark_limit"),
    "weights_sha256",
)


def of_before(found: object) -> object:
    """Keys less those that there were not yet, all the way down."""
    if not isinstance(found, list):
        return found
    return [(name, of_before(below)) for name, below in found if name not in NEW]


def test_training_fills_in_every_key_in_the_order_of_before(trained):
    """A record ignores keys that it does not know, so a wrong one would be lost without a word."""
    for name in ("summary.json", "environment.json", METRICS):
        texts = [(run / name).read_text() for run in (trained.run, KEPT)]
        now, before = (json.loads(text.splitlines()[0] if name == METRICS else text) for text in texts)
        assert of_before(keys(now)) == keys(before), name


def test_evaluation_and_inspection_fill_in_every_key_in_the_order_of_before(trained, tmp_path):
    found: Evaluation = trained.evaluate(robustness="synthetic")
    looked = inspect_run(trained.config, "last", trained.data, trained.folder / "runs", "cpu", print)
    kept = read_record(KEPT / EVALUATION, SavedEvaluation)
    whole = keys(found.record().model_copy(update={"ood": kept.ood}).as_dict())
    assert of_before(whole) == kept_keys("evaluation.json")
    assert of_before(keys(looked.record().as_dict())) == kept_keys("inspection.json")


def test_what_was_not_set_is_not_written_and_what_is_unknown_is_left_to_others():
    epoch = Epoch.model_validate({"epoch": 3, "diversity": None, "of_a_later_version": 1})
    assert epoch.as_dict() == {"epoch": 3, "diversity": None}


def test_a_damaged_record_is_one_line_that_names_file_and_key(tmp_path):
    (tmp_path / "summary.json").write_text('{"last": {"top1": "high"}}')
    with pytest.raises(DataError, match=r"summary.json: last.top1: .* number, found 'high'; the file is damaged or"):
        read_record(tmp_path / "summary.json", RunSummary)
    assert read_record(tmp_path / "environment.json", Environment) is None


def test_of_equal_epochs_the_latest_is_best_and_without_scores_none_is():
    history = [Epoch(epoch=1, top1=0.5), Epoch(epoch=2, top1=0.5), Epoch(epoch=3, top1=0.4), Epoch(epoch=4)]
    assert best_epoch(history).epoch == 2
    assert best_epoch(history[3:]) is None


def test_only_what_a_run_leaves_is_removed(tmp_path):
    names = ["summary.json", "metrics.jsonl", "metrics.csv", "report.html", "ood.png", "checkpoints/best.pt"]
    for name in (*names, "notes.txt", "config.yaml", "checkpoints/mine.ckpt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    remove_run(tmp_path)
    left = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    assert left == {"notes.txt", "config.yaml", "checkpoints/mine.ckpt"}


def test_better_is_the_network_that_is_mostly_right_and_surer_where_it_is():
    labels = torch.arange(40) % 8
    label, other = (torch.nn.functional.one_hot((labels + shift) % 8, 8).float() for shift in (0, 1))
    errs = (torch.arange(40) % 5 == 0)[:, None]

    def scores(wrong: torch.Tensor, if_right: float, if_wrong: float):
        logits = torch.where(wrong, if_wrong * other - label, if_right * label)
        return evaluate_logits(torch.stack([logits, logits], dim=1), labels)

    good, bad = scores(errs, if_right=6.0, if_wrong=1.0), scores(~errs, if_right=1.0, if_wrong=6.0)
    for name, row in SCORES.items():
        one, two = getattr(good, name), getattr(bad, name)
        assert row.better is None or (one > two if row.better == "higher" else one < two), name


def test_every_score_is_a_row_with_a_definition_and_tables_leave_none_out():
    assert [*SCORES] == [*evaluate_logits(torch.randn(9, 2, 6), torch.arange(9) % 6).as_dict()]
    assert all(definition(name) for name in SCORES)
    shown = ensemble_scores(("nll", "top1"))
    assert shown[:2] == ["nll", "top1"]
    assert sorted(shown) == sorted(name for name, row in SCORES.items() if row.of == "ensemble" and row.label)
