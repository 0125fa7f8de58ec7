"""Scores under corruptions and the mean corruption error are those counted by hand; files and tables keep them."""

import io
import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from mixmo_fast.errors import MixmoError
from mixmo_fast.evaluation.metrics import evaluate_logits
from mixmo_fast.evaluation.robustness import (
    CorruptedSet,
    Robustness,
    evaluate_robustness,
    mean_corruption_error,
    read_robustness,
    robustness_table,
)
from mixmo_fast.tables import print_table

LABELS = torch.tensor([0, 1, 2, 0])


class FakeBatches:
    """A set of four images of which the first `right` are recognised by both members."""

    images = 4

    def __init__(self, right: int):
        self.right = right

    def __iter__(self):
        raise AssertionError("only `predict` looks at images")


def fake_predict(batches: FakeBatches) -> tuple[torch.Tensor, torch.Tensor]:
    predicted = torch.where(torch.arange(4) < batches.right, LABELS, (LABELS + 1) % 3)
    logits = torch.nn.functional.one_hot(predicted, 3).float()
    return torch.stack([2 * logits, 3 * logits], dim=1), LABELS


RIGHT = {("fog", 1): 4, ("fog", 2): 3, ("snow", 1): 2, ("snow", 2): 1, ("spatter", 1): 0, ("spatter", 2): 3}


def fake_sets(right: dict[tuple[str, int], int] = RIGHT) -> list[CorruptedSet]:
    return [CorruptedSet(*place, FakeBatches(count)) for place, count in right.items()]


def replace(found: Robustness, **changed) -> Robustness:
    return Robustness(**dict(found) | changed)


def evaluated(right: dict[tuple[str, int], int] = RIGHT) -> Robustness:
    return evaluate_robustness(fake_predict, fake_sets(right), "CIFAR-10-C", ("fog", "snow"))


def test_accuracies_are_those_counted_by_hand():
    found = evaluated()
    assert found.source == "CIFAR-10-C"
    assert found.corruptions == ("fog", "snow", "spatter")
    assert found.severities == (1, 2)
    assert found.top1 == ((1, 0.75), (0.5, 0.25), (0, 0.75))
    assert found.mean_top1 == (1 + 0.75 + 0.5 + 0.25) / 4  # of the benchmark alone
    assert found.pooled.top1 == 13 / 24  # of all
    assert (found.mce, found.mce_against) == (None, None)


def test_all_images_are_scored_as_one_set():
    pairs = [fake_predict(corrupted.batches) for corrupted in fake_sets()]
    logits, labels = (torch.cat(tensors) for tensors in zip(*pairs, strict=True))
    assert evaluated().pooled == evaluate_logits(logits, labels)


def test_sets_may_come_in_any_order():
    found, usual = evaluated(dict(reversed(RIGHT.items()))), evaluated()
    by_name = dict(zip(found.corruptions, found.top1, strict=True))
    assert tuple(by_name[name] for name in usual.corruptions) == usual.top1
    assert found.severities == usual.severities
    assert found.mean_top1 == usual.mean_top1


@pytest.mark.parametrize("ensemble", ["logits", "probabilities"])
def test_the_definition_of_the_ensemble_is_passed_on(ensemble):
    """Mean logits prefer class 1, mean probabilities class 0."""
    logits, labels = torch.tensor([[[9.0, 0.0, 0.0], [-16.0, 0.0, -3.0]]]), torch.tensor([1])
    found = evaluate_robustness(
        lambda _: (logits, labels), [CorruptedSet("fog", 1, FakeBatches(0))], "synthetic", ["fog"], ensemble
    )
    assert found.top1 == (((1.0,) if ensemble == "logits" else (0.0,)),)
    assert found.pooled == evaluate_logits(logits, labels, ensemble)


def test_a_set_is_made_only_when_the_one_before_is_done():
    events = []

    def lazy():
        for corrupted in fake_sets():
            events.append(("made", corrupted.corruption, corrupted.severity))
            yield corrupted

    evaluate_robustness(
        fake_predict, lazy(), "CIFAR-10-C", ("fog",), progress=lambda *place: events.append(("done", *place))
    )
    expected = [event for place, count in RIGHT.items() for event in (("made", *place), ("done", *place, count / 4))]
    assert events == expected


@pytest.mark.parametrize(
    ("sets", "benchmark", "message"),
    [
        ([], (), "missing"),
        (fake_sets(), (), "missing"),
        (fake_sets(), ("fog", "frost"), r"missing: \['frost'\]"),
        (fake_sets()[:-1], ("fog",), r"missing: \[\('spatter', 2\)\]"),
        (fake_sets() * 2, ("fog",), "fog of severity 1 is there twice"),
    ],
)
def test_what_is_no_full_grid_is_refused(sets, benchmark, message):
    with pytest.raises(ValueError, match=message):
        evaluate_robustness(fake_predict, sets, "synthetic", benchmark)


@pytest.mark.parametrize(
    "changed",
    [
        {"top1": ((1.0, 0.75), (0.5, 0.25))},
        {"top1": ((1.0,), (0.5,), (0.0,))},
        {"top1": ((100.0, 75.0), (50.0, 25.0), (0.0, 75.0))},
        {"benchmark": ("rain",)},
        {"benchmark": ()},
    ],
)
def test_numbers_that_do_not_fit_together_are_refused(changed):
    with pytest.raises(ValueError, match=r"top1 must be|the benchmark must be"):
        replace(evaluated(), **changed)


def test_mean_corruption_error_is_the_one_counted_by_hand():
    other = evaluated(RIGHT | {("fog", 1): 2, ("snow", 1): 1, ("spatter", 1): 4})
    # Wrong images, of four: fog 0 + 1 against 2 + 1, snow 2 + 3 against 3 + 3; spatter is not in the benchmark.
    assert mean_corruption_error(evaluated(), other) == pytest.approx((1 / 3 + 5 / 6) / 2)
    assert mean_corruption_error(evaluated(), evaluated()) == 1


fractions = st.floats(0, 0.99)


@settings(max_examples=50)
@given(
    ours=st.lists(st.tuples(fractions, fractions, fractions), min_size=3, max_size=3),
    theirs=st.lists(st.tuples(fractions, fractions, fractions), min_size=3, max_size=3),
)
def test_mean_corruption_error_is_a_mean_of_ratios_of_sums_in_any_order(ours, theirs):
    names = ("fog", "snow", "frost")
    grid = replace(evaluated(), corruptions=names, severities=(1, 2, 3), top1=tuple(ours), benchmark=names)
    other = replace(grid, corruptions=names[::-1], top1=tuple(theirs[::-1]), benchmark=names[1:] + names[:1])
    expected = np.mean((1 - np.array(ours)).sum(axis=1) / (1 - np.array(theirs)).sum(axis=1))
    assert mean_corruption_error(grid, other) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"source": "synthetic"}, "differ in source: CIFAR-10-C against synthetic"),
        ({"corruptions": ("fog", "snow", "frost")}, "differ in corruptions"),
        ({"benchmark": ("fog",)}, "differ in benchmark"),
        ({"severities": (1, 3)}, r"differ in severities: \[1, 2\] against \[1, 3\]"),
        ({"top1": ((1.0, 1.0), (0.5, 0.25), (0.0, 0.75))}, "makes no error under fog"),
    ],
)
def test_runs_that_cannot_be_compared_are_refused_in_one_line(changed, message):
    with pytest.raises(MixmoError, match=message) as caught:
        mean_corruption_error(evaluated(), replace(evaluated(), **changed))
    assert "\n" not in str(caught.value)


def write_evaluation(folder, robustness: dict | None):
    path = folder / "evaluation.json"
    path.write_text(json.dumps({"dataset": "cifar10", "top1": 0.9, "robustness": robustness}, allow_nan=False))
    return path


def test_what_is_written_is_read_back(tmp_path):
    for found in (evaluated(), replace(evaluated(), mce=0.5, mce_against="runs/single")):
        path = write_evaluation(tmp_path, found.as_dict())
        assert read_robustness(path) == found
        assert read_robustness(tmp_path, "cifar10") == found


def test_the_written_form_has_lists_and_names(tmp_path):
    written = evaluated().as_dict()
    assert json.loads(json.dumps(written, allow_nan=False)) == written
    assert written["corruptions"] == ["fog", "snow", "spatter"]
    assert written["severities"] == [1, 2]
    assert written["top1"] == [[1, 0.75], [0.5, 0.25], [0, 0.75]]
    assert written["pooled"] == evaluated().pooled.as_dict()
    assert {"source", "mean_top1", "mce", "mce_against", "benchmark"} <= written.keys()


def spoilt(**changed) -> str:
    return json.dumps({"dataset": "cifar10", "robustness": evaluated().as_dict() | changed})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "the file: "),
        ("[1]", "the file: "),
        ('{"dataset": "cifar10", "robu', "the file: "),
        ("{}", "dataset: "),
        ('{"dataset": "cifar10"}', "has no robustness"),
        ('{"dataset": "cifar10", "robustness": null}', "has no robustness"),
        ('{"dataset": "cifar10", "robustness": {}}', r"robustness\.source: "),
        (spoilt(top1="high"), r"robustness\.top1: "),
        (spoilt(top1=[[0.5, 0.5]] * 2), "robustness: .*top1 must be 3 x 2"),
        (spoilt(top1=[[math.nan, 0.5]] * 3), r"robustness\.top1\.0\.0: "),
        (spoilt(pooled=None), r"robustness\.pooled: "),
    ],
)
def test_a_file_without_robustness_is_named_in_one_line(tmp_path, content, message):
    (tmp_path / "evaluation.json").write_text(content)
    with pytest.raises(MixmoError, match=message) as caught:
        read_robustness(tmp_path)
    assert str(caught.value).startswith(str(tmp_path / "evaluation.json"))
    assert "\n" not in str(caught.value)


def test_of_a_runs_evaluations_that_of_last_counts_before_others(tmp_path):
    for name in ("best", "last"):
        (tmp_path / "evaluations" / name).mkdir(parents=True)
        write_evaluation(tmp_path / "evaluations" / name, evaluated().as_dict() | {"source": name})
    assert read_robustness(tmp_path).source == "last"
    write_evaluation(tmp_path / "evaluations" / "last", None)
    assert read_robustness(tmp_path).source == "best"


def test_a_missing_file_and_another_data_set_are_reported(tmp_path):
    with pytest.raises(MixmoError, match=r"evaluation\.json: cannot be read .*`mixmo-fast evaluate` writes it"):
        read_robustness(tmp_path)
    with pytest.raises(MixmoError, match="is of cifar10, not of cifar100"):
        read_robustness(write_evaluation(tmp_path, evaluated().as_dict()), "cifar100")


def test_the_table_shows_every_number_in_percent():
    console = Console(width=100, record=True, file=io.StringIO())
    print_table(console, robustness_table(replace(evaluated(), mce=0.5833, mce_against="runs/[bold]single")))
    lines = console.export_text().splitlines()

    def numbers(name: str) -> list[str]:
        return next(line for line in lines if f" {name} " in line).replace("│", " ").split()[-3:]

    assert numbers("fog") == ["100.00", "75.00", "87.50"]
    assert numbers("snow") == ["50.00", "25.00", "37.50"]
    assert numbers("mean of 2") == ["75.00", "50.00", "62.50"]
    assert numbers("spatter") == ["0.00", "75.00", "37.50"]
    text = " ".join(" ".join(lines).split())  # as if it were not wrapped
    assert "CIFAR-10-C" in text
    assert "one set: top-1 54.17 %" in text
    assert "58.3 %, where runs/[bold]single has 100 %" in text
