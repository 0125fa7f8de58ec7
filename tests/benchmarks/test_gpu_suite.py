"""The suite for a GPU machine, tried without one: what it runs, how it keeps time, what it leaves and says."""

import json
import re
import sys
import time

import pytest
import torch

from benchmarks.gpu_suite import Part, main, parts, run_suite, summary

PIPELINES = {
    "row_counts": {
        "64": {"contestants": {"resident": {"rows_per_second": 3e6, "step_ratio": 1.004}}},
        "256": {"contestants": {"resident": {"rows_per_second": 4e6}}},
    }
}
TRAINING = {
    "contestants": {"default": {"rows_per_second": 9500.0, "mfu": 0.42}, "eager_fp32_nchw": {"error": "out of memory"}},
    "data": {"ratio": 1.01},
    "ceiling": None,
    "end_to_end": {"error": "lost"},
}


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def writes(path, content: object) -> list[str]:
    return python(f"open({str(path)!r}, 'w').write({json.dumps(content)!r})")


def test_an_interrupted_suite_leaves_what_was_measured(tmp_path):
    out = tmp_path / "out"
    suite = [
        Part(
            "pipelines",
            30,
            [python("print('hello')"), writes(out / "pipelines.json", PIPELINES)],
            out / "pipelines.json",
        ),
        Part("slow", 1.5, [python(f"import time\ntry: time.sleep(60)\nfinally: open({str(out / 'tidy')!r}, 'w')")]),
        Part("broken", 30, [python("import sys; print('the reason'); sys.exit(3)"), python("print('never')")]),
        Part("training", 30, [writes(out / "training.json", TRAINING)], out / "training.json"),
    ]
    started = time.monotonic()
    states = run_suite(suite, out, 60, lambda _: None)
    assert time.monotonic() - started < 30
    found = {name: state["state"] for name, state in states.items()}
    assert found == {
        "pipelines": "finished",
        "slow": "out of time",
        "broken": "failed (exit code 3)",
        "training": "finished",
    }
    assert json.loads((out / "suite.json").read_text()) == states
    assert "the reason" in (out / "broken.log").read_text() and "never" not in (out / "broken.log").read_text()
    assert (out / "tidy").exists()  # what is interrupted cleans up
    assert "hello" in (out / "pipelines.log").read_text()
    lines = summary(states, out)
    assert (
        lines[0] == "pipelines: B=64 resident 3,000,000 rows/s (step new/frozen 1.004); B=256 resident 4,000,000 rows/s"
    )
    assert lines[1] == f"slow: nothing [out of time, see {out}/slow.log]"
    assert lines[3] == "training: default 9,500 rows/s, MFU 42 %; eager_fp32_nchw failed; new/frozen data 1.010"


def test_when_the_time_is_over_the_rest_is_named(tmp_path):
    suite = [Part("first", 30, [python("import time; time.sleep(60)")]), Part("second", 30, [python("")])]
    states = run_suite(suite, tmp_path, 1.5, lambda _: None)
    assert [state["state"] for state in states.values()] == ["out of time", "no time left"]


def test_the_suite_measures_what_it_promises_in_nine_minutes(tmp_path):
    names = [part.name for part in parts(tmp_path, "cuda", tmp_path)]
    for expected in (
        "tests",
        "pipelines",
        "fashion_mnist",
        *(f"training_res18-{width}_m2_b100" for width in (1, 2, 3)),
    ):
        assert expected in names
    for members in (1, 2):
        for rows in (64, 256):
            assert f"training_wrn-28-10_m{members}_b{rows}" in names
    assert "fashion_mnist" not in [part.name for part in parts(tmp_path, "cuda", None)]


def test_commands_are_shown_and_unknown_parts_are_one_line(tmp_path, capsys):
    main(["--out", str(tmp_path / "x"), "--dry-run", "--only", "tests,pipelines"])
    shown = capsys.readouterr().out
    assert "# tests: at most 60 s" in shown and "-m mixmo_fast benchmark" in shown and "res18" not in shown
    assert not (tmp_path / "x").exists()
    if not torch.cuda.is_available():
        with pytest.raises(SystemExit, match="2"):
            main(["--out", str(tmp_path / "x")])
        assert capsys.readouterr().err.startswith("benchmarks.gpu_suite: --device cuda: torch sees no CUDA device here")
        assert not (tmp_path / "x").exists()
    with pytest.raises(SystemExit, match="2"):
        main(["--out", str(tmp_path), "--only", "nonsense"])
    assert "--only: found 'nonsense', allowed: tests, training_wrn-28-10_m2_b64" in capsys.readouterr().err


@pytest.mark.slow
def test_a_part_is_a_command_that_works(tmp_path, capsys):
    """The smallest real one: the GPU tests, which skip themselves where there is none."""
    main(["--out", str(tmp_path), "--only", "tests", "--device", "cpu"])
    assert re.match(r"tests: \d+ (passed|skipped)", capsys.readouterr().out.splitlines()[-1])
