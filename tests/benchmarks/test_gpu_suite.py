"""The suite for a GPU machine, tried without one: what it runs, how it keeps time, what it leaves and says."""

import json
import re
import sys
import time
from fnmatch import fnmatch

import pytest
import torch
from test_docs import parse

from benchmarks import gpu_suite
from benchmarks.gpu_suite import code, finished, main, read_states, run_suite
from benchmarks.gpu_suite_parts import Part, parts
from benchmarks.gpu_suite_summary import GOALS, summary
from mixmo_fast.errors import MixmoError

STAMP = {"code": "c0de", "device": "NVIDIA H100 80GB HBM3"}

PIPELINES = {
    "row_counts": {
        "64": {"contestants": {"resident": {"rows_per_second": 3e6, "step_ratio": 1.004}}},
        "256": {"contestants": {"resident": {"rows_per_second": 4e6}}},
    }
}
TRAINING = {
    "device": STAMP["device"],
    "contestants": {"default": {"rows_per_second": 9500.0, "mfu": 0.42}, "eager_fp32_nchw": {"error": "out of memory"}},
    "data": {"ratio": 1.01},
    "ceiling": None,
    "end_to_end": {"error": "lost"},
}


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def writes(path, content: object) -> list[str]:
    return python(f"open({str(path)!r}, 'w').write({json.dumps(content)!r})")


def run(suite: list[Part], out, seconds: float = 60, stamp=STAMP, done=()) -> dict:
    return run_suite(suite, out, seconds, lambda _: None, cache=out / "cache", stamp=stamp, done=done)


def words_of(name: str, result: dict) -> str:
    (line,) = summary({name: {"state": "finished", "result": result}}, None, STAMP)
    return line


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
    states = run(suite, out)
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
    lines = summary(states, out, STAMP)
    assert (
        lines[0] == "pipelines: B=64 resident 3,000,000 rows/s (step new/frozen 1.004); B=256 resident 4,000,000 rows/s"
    )
    assert lines[1] == f"slow: nothing [out of time, see {out}/slow.log]"
    assert lines[3] == (
        "training: default 9,500 rows/s, MFU 42 %; eager_fp32_nchw failed; new/frozen data 1.010; end_to_end failed"
    )


def test_when_the_time_is_over_the_rest_is_named(tmp_path):
    suite = [Part("first", 30, [python("import time; time.sleep(60)")]), Part("second", 30, [python("")])]
    states = run(suite, tmp_path, 1.5)
    assert [state["state"] for state in states.values()] == ["out of time", "no time left"]


def test_no_part_begins_that_would_have_less_than_half_of_its_time(tmp_path):
    suite = [Part("first", 100, [python("")]), Part("long", 100, [python("")]), Part("short", 20, [python("")])]
    states = run(suite, tmp_path, 40)
    assert [state["state"] for state in states.values()] == ["finished", "no time left", "finished"]


def test_a_second_call_does_what_is_left(tmp_path):
    """What finished is not run again, what did not is; results of both stand in the same file."""
    log = tmp_path / "ran"

    def part(name: str, code: str = "") -> Part:
        return Part(name, 30, [python(f"open({str(log)!r}, 'a').write({name!r} + ' ')\n{code}")])

    first = [part("a"), part("b", "import os; assert os.path.exists('/nonexistent')"), part("c")]
    out = tmp_path / "out"
    assert finished(first, read_states(out), STAMP) == set()
    run(first, out)
    assert finished(first, read_states(out), STAMP) == {"a", "c"}
    second = [*first[:2], part("c", "'changed'"), part("d")]
    done = finished(second, read_states(out), STAMP)
    states = run(second, out, done=done)
    assert log.read_text().split() == ["a", "b", "c", "b", "c", "d"]
    assert list(states) == ["a", "b", "c", "d"] and read_states(out) == states
    # Neither other code nor another device has finished anything.
    assert finished(second, states, STAMP | {"code": "other"}) == set()
    assert finished(second, states, STAMP | {"device": "NVIDIA H200"}) == set()
    assert finished(second, states, {"device": STAMP["device"]}) == {"a", "c", "d"}
    assert summary(states, out, STAMP | {"code": "other"})[0] == "a: nothing [of other code: c0de]"


def test_what_an_earlier_call_found_stays_where_no_time_is_left(tmp_path):
    suite = [Part("a", 30, [writes(tmp_path / "a.json", TRAINING)], tmp_path / "a.json"), Part("b", 30, [python("")])]
    before = run(suite, tmp_path)
    assert run(suite, tmp_path, seconds=0.1, stamp=STAMP | {"code": "other"}) == before
    assert before["a"]["result"] == TRAINING and before["a"]["code"] == "c0de"


def test_the_suite_decides_by_itself_what_to_run_again(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(gpu_suite, "parts", lambda *_: [Part(name, 30, [python("")]) for name in ("a", "b")])

    def ran(*more: str) -> list[str]:
        main(["--out", str(tmp_path), "--device", "cpu", *more])
        return [line[0] for line in capsys.readouterr().out.splitlines() if "at most" in line]

    assert ran() == ["a", "b"]
    assert ran() == []
    assert ran("--only", "b") == ["b"]
    monkeypatch.setattr(gpu_suite, "code", lambda: "other")
    assert ran("--resume") == []
    assert ran() == ["a", "b"]
    monkeypatch.setattr(gpu_suite, "parts", lambda *_: [Part("a", 30, [python("'changed'")])])
    with pytest.raises(SystemExit, match="1"):  # what finished was another command, and now there is no time
        ran("--minutes", "0")
    (tmp_path / "suite.json").write_text("{")
    with pytest.raises(SystemExit, match="2"):
        ran()
    assert "suite.json: cannot be read" in capsys.readouterr().err


def test_code_is_what_lies_there(tmp_path, monkeypatch):
    (tmp_path / "benchmarks").mkdir()
    program = tmp_path / "benchmarks" / "gpu_suite.py"
    program.write_text("1")
    monkeypatch.setattr(gpu_suite, "__file__", str(program))
    first = code()
    (tmp_path / "benchmarks" / "result.json").write_text("{}")
    assert code() == first
    program.write_text("2")
    assert code() != first


def test_parts_share_what_was_compiled_but_for_the_cold_start(tmp_path):
    show = "import os; print(os.environ['TORCHINDUCTOR_CACHE_DIR'], os.environ['TRITON_CACHE_DIR'])"
    run([Part("one", 30, [python(show)])], tmp_path)
    cache = tmp_path / "cache"
    assert f"{cache}/inductor {cache}/triton" in (tmp_path / "one.log").read_text()
    for part in parts(tmp_path, cache, "cuda", tmp_path):
        assert (str(cache) in part.commands[0]) == part.name.startswith("training_"), part.name


def test_the_suite_measures_what_it_promises_what_matters_most_first(tmp_path):
    names = [part.name for part in parts(tmp_path, tmp_path, "cuda", tmp_path)]
    res18 = [f"training_res18-{width}_m2_b100" for width in (1, 2, 3)]
    first = ["tests", "training_wrn-28-10_m2_b64", "fashion_mnist", "fashion_mnist_plain", *res18]
    assert names[: len(first)] == first
    rest = {"pipelines", "pipelines_b4096", "pipelines_in_training", "cold_start", "training_wrn-28-10_m2_b64_compiled"}
    others = {f"training_wrn-28-10_m{members}_b{rows}" for members, rows in ((1, 64), (1, 256), (2, 256))}
    assert set(names[len(first) :]) == rest | others
    assert not [part for part in parts(tmp_path, tmp_path, "cuda", None) if "fashion" in part.name]
    fast, plain = (part for part in parts(tmp_path, tmp_path, "cuda", tmp_path) if "fashion" in part.name)
    assert {"step.precision=fp32", "step.cuda_graph=false"} <= set(plain.commands[1]) - set(fast.commands[1])
    assert fast.result != plain.result


def test_every_command_is_one_that_its_program_understands(tmp_path):
    for part in parts(tmp_path, tmp_path / "cache", "cuda", tmp_path):
        for interpreter, *words in part.commands:
            assert interpreter == sys.executable
            if words[:2] != ["-m", "pytest"]:
                parse(["python", *words])


def test_every_goal_is_one_that_a_part_can_reach(tmp_path):
    names = [part.name for part in parts(tmp_path, tmp_path, "cuda", tmp_path)]
    for goal in GOALS:
        assert any(fnmatch(name, goal.parts) for name in names), goal
        assert goal.goal is None or (goal.goal < goal.must) == goal.less_is_better, goal


def test_numbers_stand_beside_their_goals():
    result = {
        "device": "NVIDIA H100 80GB HBM3",
        "contestants": {"default": {"rows_per_second": 8400.0, "mfu": 0.3}},
        "ratios": {"default/eager_bf16_channels_last": 1.25},
        "data": {"ratio": 1.03},
        "ceiling": {"share_of_ceiling": 0.5},
        "end_to_end": {"ratio": 10.0},
        "idle": {"share": 0.01},
        "first_step_after_seconds": 95.2,
    }
    line = words_of("training_wrn-28-10_m2_b64", result)
    assert line == (
        "training_wrn-28-10_m2_b64: default 8,400 rows/s (must 8,000: reached; goal 10,000: missed), MFU 30 %; "
        "1.25 x eager_bf16_channels_last (must 1.3: missed); new/frozen data 1.030 (at most 1.02: missed); "
        "50% of the convolutions' ceiling; end to end 10.0 x the reference (must 10: reached); idle 1.0% of a step; "
        "first step after 95 s"
    )
    assert "(must 9,000: missed; goal 11,000: missed)" in words_of(
        "training_wrn-28-10_m2_b64", result | {"device": "NVIDIA H200"}
    )
    assert "8,400 rows/s, MFU" in words_of("training_wrn-28-10_m2_b64", result | {"device": "NVIDIA A100-SXM4-80GB"})
    assert "(must 9,500: missed; goal 13,000: missed)" in words_of("training_res18-3_m2_b100", result)
    assert words_of("cold_start", result).endswith("first step after 95 s (at most 90: missed)")
    assert "8,400 rows/s, MFU" in words_of("cold_start", result)


def test_commands_are_shown_and_unknown_parts_are_one_line(tmp_path, capsys):
    main(["--out", str(tmp_path / "x"), "--dry-run", "--only", "tests,pipelines"])
    shown = capsys.readouterr().out
    assert "# tests: at most 150 s" in shown and "-m mixmo_fast benchmark" in shown and "res18" not in shown
    assert not (tmp_path / "x").exists()
    if not torch.cuda.is_available():
        with pytest.raises(SystemExit, match="2"):
            main(["--out", str(tmp_path / "x")])
        assert capsys.readouterr().err.startswith("benchmarks.gpu_suite: --device cuda: torch sees no CUDA device here")
        assert not (tmp_path / "x").exists()
    with pytest.raises(SystemExit, match="2"):
        main(["--out", str(tmp_path), "--only", "nonsense"])
    assert "--only: found 'nonsense', allowed: tests, training_wrn-28-10_m2_b64" in capsys.readouterr().err


def test_states_that_cannot_be_read_are_one_line(tmp_path):
    (tmp_path / "suite.json").mkdir()
    with pytest.raises(MixmoError, match="cannot be read"):
        read_states(tmp_path)


@pytest.mark.slow
def test_a_part_is_a_command_that_works(tmp_path, capsys):
    """The smallest real one: the GPU tests, which skip themselves where there is none."""
    main(["--out", str(tmp_path), "--only", "tests", "--device", "cpu"])
    assert re.match(r"tests: \d+ (passed|skipped)", capsys.readouterr().out.splitlines()[-1])
