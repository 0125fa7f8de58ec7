"""`python -m benchmarks.conversion`: both contestants read the same files, and nothing is left behind."""

import json
import sys

import numpy as np
import own_images
import pytest

from benchmarks import conversion


def test_the_loop_has_the_pixels_of_the_files(tmp_path):
    folder = own_images.write_folders(tmp_path / "photographs") / "train"
    (tmp_path / "out").mkdir()
    count = conversion.plain_loop(folder, 16, tmp_path / "out")
    images = np.load(tmp_path / "out" / "images.npy")
    assert len(images) == count == len(own_images.images("train"))
    assert images.shape[1:] == (16, 16, 3) and images.std() > 10


def test_the_command_measures_and_writes(tmp_path, monkeypatch, capsys):
    folder = own_images.write_folders(tmp_path / "photographs") / "train"
    file = tmp_path / "out" / "result.json"
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    words = ["conversion", str(folder), "--size", "16", "--repetitions", "2", "--json", str(file)]
    monkeypatch.setattr(sys, "argv", words)
    conversion.main()
    found = json.loads(file.read_text())
    assert (
        found["images"] == len(own_images.images("train"))
        and len(found["loop_seconds"]) == len(found["conversion_seconds"]) == 2
    )
    ratios = [one / other for one, other in zip(found["loop_seconds"], found["conversion_seconds"], strict=True)]
    assert found["ratio"] == pytest.approx(sum(ratios) / 2)
    assert "ratio" in capsys.readouterr().out
    assert {path.name for path in tmp_path.iterdir()} == {"photographs", "out"}
