"""Files that are no checkpoints: one line that says so, never the advice that torch has for programmers."""

import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

WRITERS = {
    "model.pt": lambda path: torch.save(torch.nn.Linear(2, 2), path),
    "model_in_a_dictionary.pt": lambda path: torch.save({"model": torch.nn.Linear(2, 2), "epoch": 3}, path),
    "legacy.pt": lambda path: torch.save(torch.nn.Linear(2, 2), path, _use_new_zipfile_serialization=False),
    "pickle.pkl": lambda path: path.write_bytes(pickle.dumps({"weights": [1, 2]})),
    "path.pkl": lambda path: path.write_bytes(pickle.dumps(Path("x"))),
    "array.npy": lambda path: np.save(path, np.zeros(3)),
    "arrays.npz": lambda path: np.savez(path, first=np.zeros(3)),
    "text.pt": lambda path: path.write_text("hello\n"),
    "empty.pt": lambda path: path.write_bytes(b""),
    "archive.zip": lambda path: zipfile.ZipFile(path, "w").writestr("a.txt", "b"),
    "list.pt": lambda path: torch.save([1, 2, 3], path),
    "other.pt": lambda path: torch.save({"state_dict": torch.nn.Linear(2, 2).state_dict()}, path),
}
COMMANDS = [
    "evaluate RUN --checkpoint FILE",
    "inspect RUN --checkpoint FILE",
    "predict RUN RUN --checkpoint FILE",
    "export RUN --format onnx --checkpoint FILE",
    "train CONFIG --init FILE --name new",
    "evaluate FILE",
    "train FILE",
    "config explain FILE",
]


@pytest.mark.parametrize("name", WRITERS)
def test_a_file_that_is_no_checkpoint_is_one_line_without_torchs_advice(command, trained, tmp_path, name):
    path = tmp_path / name
    WRITERS[name](path)
    places = {"RUN": trained.run, "CONFIG": trained.config, "FILE": path}
    for line in COMMANDS:
        words = [places.get(word, word) for word in line.split()]
        where = () if words[0] == "config" else ("--runs", tmp_path / "runs")
        code, _, err = command(*words, "--data", trained.data, *where)
        assert (code, err.count("\n")) == (2, 1), line
        assert str(path) in err and len(err) < 600
        assert not [
            word for word in ("weights_only", "torch.load", "Re-running", "enforce fail", "\\x") if word in err
        ], err
