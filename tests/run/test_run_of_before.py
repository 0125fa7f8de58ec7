"""A run folder that an earlier version of this program left stays readable, to the last image."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from lab import Lab
from places import TESTS

BEFORE = TESTS / "golden" / "run_of_before"


@pytest.fixture
def before(tmp_path, digits) -> Lab:
    """A copy of that run, with its configuration beside it."""
    lab = Lab(tmp_path, digits, (BEFORE / "config.yaml").read_text())
    shutil.copytree(BEFORE, lab.run)
    return lab


def record(folder: Path, name: str) -> dict:
    return json.loads((folder / f"{name}.json").read_text())


def test_its_checkpoint_scores_what_it_scored(before):
    scores, kept = before.evaluate().record().as_dict(), record(BEFORE, "evaluation")
    assert scores["images"] == 359 and kept["top1"] == record(BEFORE, "summary")["last"]["top1"]
    for name in ("top1", "top5", "member_top1", "confusion", "diversity"):
        assert scores[name] == kept[name], name
    assert scores["nll"] == pytest.approx(kept["nll"], rel=1e-5)


def test_the_same_command_finds_it_complete(before):
    before.train()
    assert "is complete: 8 epochs" in before.printed.getvalue()
    weights = before.checkpoint()["network"]
    kept = torch.load(BEFORE / "checkpoints" / "last.pt")["network"]
    assert weights.keys() == kept.keys() and all(torch.equal(weights[name], kept[name]) for name in kept)


def test_what_it_recorded_is_shown_on_its_page(before):
    from rich.console import Console

    from mixmo_fast.reproduce.reporting import write_comparison  # matplotlib takes a second to import

    write_comparison([before.run], Console(quiet=True))
    page = (before.run / "report.html").read_text()
    for said in ("62.12 %", "Cut-MixMo", "fp32"):
        assert said in page
    assert "Peak memory" not in page  # of which it knew nothing
