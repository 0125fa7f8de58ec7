"""The tour in `examples/` is kept without outputs, explains itself, and runs to its end from any folder."""

import json
import os
import re

import nbformat
import pytest
from nbclient import NotebookClient
from places import REPOSITORY

import mixmo_fast as mf

TOUR = REPOSITORY / "examples" / "tour.ipynb"


@pytest.fixture
def tour() -> nbformat.NotebookNode:
    return nbformat.read(TOUR, as_version=4)


def code_of(notebook: nbformat.NotebookNode) -> list[str]:
    return [cell.source for cell in notebook.cells if cell.cell_type == "code"]


def test_it_is_kept_without_what_it_printed(tour):
    nbformat.validate(tour)
    for cell in tour.cells:
        if cell.cell_type == "code":
            assert (cell.outputs, cell.execution_count) == ([], None)
    assert tour.metadata.keys() == {"kernelspec", "language_info"}
    assert TOUR.stat().st_size < 20_000
    assert json.dumps(json.loads(TOUR.read_text()), indent=1, ensure_ascii=False) + "\n" == TOUR.read_text()


def test_every_cell_is_explained_in_some_sentences(tour):
    assert [cell.cell_type for cell in tour.cells] == ["markdown", "code"] * (len(tour.cells) // 2)
    for cell in tour.cells[::2]:
        sentences = re.findall(r"\.(?:\s|$)", re.sub(r"^#.*", "", cell.source))
        assert 1 <= len(sentences) <= 6, cell.source


def test_it_names_what_the_door_has_and_no_place_of_anybodys(tour):
    code = "\n".join(code_of(tour))
    assert set(re.findall(r"\bmf\.(\w+)", code)) <= set(mf.__all__)
    assert not re.search(r"(from|import) mixmo_fast\.", code)
    assert not re.search(r"""["'(\s](/|~|[A-Z]:\\)\w""", "\n".join(cell.source for cell in tour.cells))


@pytest.mark.slow
def test_it_runs_in_any_folder_and_leaves_nothing(tour, tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY), prepend=os.pathsep)
    before = code_of(tour)
    NotebookClient(tour, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}).execute()
    outputs = [output for cell in tour.cells if cell.cell_type == "code" for output in cell.outputs]
    assert code_of(tour) == before and list(tmp_path.iterdir()) == []
    assert not [output.text for output in outputs if output.get("name") == "stderr"]
    text = "".join(output.get("text", "") for output in outputs)
    member, other, together = (float(percent) for percent in re.findall(r"(\S+) % right", text))
    assert together > 90 and together > min(member, other)
    assert re.search(r"expected calibration error 0\.\d{3}, with a temperature 0\.\d{3}", text)
    said, labels = re.search(r"it says (\[.*\]) of images of (\[.*\])", text).groups()
    assert len(json.loads(said)) == 5 and said == labels
    shown = [name for output in outputs for name in output.get("data", {})]
    assert shown.count("image/png") == 3
    (frame,) = [output.data["text/html"] for output in outputs if "<iframe srcdoc=" in str(output.get("data"))]
    assert "The recipe in plain words" in frame
