"""The campaigns of faults: what ends or stops a process is a fault like any other, and a cut of all finds none."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from places import REPOSITORY

from benchmarks.faults.campaign import Campaign, Fault, check_line, kind_of, outcome
from benchmarks.faults.campaigns import CAMPAIGNS
from benchmarks.faults.damage import damaged
from benchmarks.faults.poison import changed, damaged_tree, places, without
from benchmarks.faults.runner import run
from mixmo_fast.config.load import parse_config
from mixmo_fast.errors import ConfigError, MixmoError

SHORT = ("configurations", "plans", "checkpoint_bytes", "checkpoint_structure", "checkpoint_gadgets")
SHORT += ("data_sets", "archives", "pages", "killed")
PROMISED = {"configurations": 10_000, "plans": 5_000, "checkpoint_bytes": 2_000, "checkpoint_structure": 700}
PROMISED |= {"checkpoint_gadgets": 400, "data_sets": 4_000, "archives": 1_200, "pages": 300, "killed": 1_000}
PROMISED |= {"signals": 40, "disks": 100}


class Troubled(Campaign):
    """Each of its inputs shows another fault, and between them there is one that does not."""

    name, title, inputs, seconds = "troubled", "everything that can go wrong", 7, 10.0
    memory = 2**28

    def attempt(self, draw: random.Random, number: int, folder: Path) -> str:
        (folder / "own").write_text("x")
        match number:
            case 1:
                os.kill(os.getpid(), signal.SIGSEGV)
            case 2:
                time.sleep(60)
            case 3:
                raise Fault("a kind", "what shows it")
            case 4:
                parse_config(3, "x")  # type: ignore[arg-type]
            case 5:
                bytearray(2**29)[::4096] = bytes(2**17)
        return f"drawn {draw.randrange(1000)}"


def test_whatever_an_input_does_is_counted_and_the_next_ones_are_tried(tmp_path):
    found = run(Troubled, tmp_path, 1, range(7), 300.0)
    again = run(Troubled, tmp_path, 1, range(6, 7), 300.0)
    kinds = {kind: noted["first_input"] for kind, noted in found.faults.items()}
    assert kinds.pop("ends the process with -11") == 1 and kinds.pop("takes too long") == 2
    assert kinds.pop("a kind") == 3 and kinds.pop("takes much memory") == 5
    ((inner, first),) = kinds.items()
    assert "mixmo_fast/config/" in inner and first == 4
    assert found.inputs == 7 and found.outcomes["fault"] == 5
    assert set(again.outcomes) < set(found.outcomes)  # the same seed and number draw the same input


def test_time_that_is_up_ends_a_campaign(tmp_path):
    found = run(Troubled, tmp_path, 1, range(3, 7), -1.0)
    assert found.inputs == 1


@pytest.mark.parametrize("line", ["", "two\nlines", "x" * 3000, "a\x1b[31mb"])
def test_no_line_for_a_user_is_a_fault(line):
    def refuse():
        raise MixmoError(line)

    with pytest.raises(Fault):
        outcome(refuse)


def test_what_is_refused_or_given_comes_back():
    def refuse():
        raise ConfigError("a.yaml: found 3, allowed: 4")

    assert isinstance(outcome(refuse), ConfigError) and outcome(lambda: 7) == 7
    check_line("a.yaml: found 3, allowed: 4")


def test_kinds_name_the_place_in_this_program():
    with pytest.raises(Exception) as raised:
        parse_config(3, "x")  # type: ignore[arg-type]
    assert kind_of(raised.value).startswith(f"{type(raised.value).__name__} in mixmo_fast/config/")


def test_damage_leaves_what_it_was_made_of_alone():
    tree = {"a": [1, {"b": 2.0}], "c": "x"}
    text = json.dumps(tree)
    assert list(places(tree)) == [(), ("a",), ("a", 0), ("a", 1), ("a", 1, "b"), ("c",)]
    assert changed(tree, ("a", 1, "b"), 3) == {"a": [1, {"b": 3}], "c": "x"}
    assert without(tree, ("a", 0)) == {"a": [{"b": 2.0}], "c": "x"}
    others = [damaged_tree(random.Random(seed), tree) for seed in range(200)]
    assert json.dumps(tree) == text and sum(repr(other) != repr(tree) for other in others) > 180
    content = bytes(range(200))
    for words in ((), (b"word",)):
        assert sum(damaged(random.Random(seed), content, words=words) != content for seed in range(200)) > 190


def test_whole_campaigns_have_as_many_inputs_as_the_documentation_says():
    assert {name: CAMPAIGNS[name].inputs for name in PROMISED if CAMPAIGNS[name].inputs < PROMISED[name]} == {}
    assert all(campaign.title and campaign.__doc__ for campaign in CAMPAIGNS.values())


@pytest.mark.slow
def test_a_cut_of_the_campaigns_finds_nothing(tmp_path):
    names = [word for name in SHORT for word in ("--only", name)]
    command = [sys.executable, "-m", "benchmarks.faults", *names, "--minutes", "1", "--json", tmp_path / "faults.json"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((tmp_path / "faults.json").read_text())["campaigns"]
    assert set(found) == set(SHORT)
    assert all(one["inputs"] >= 5 and not one["faults"] for one in found.values())


def test_a_fault_ends_with_1_and_the_command_that_shows_it_again(tmp_path, monkeypatch, capsys):
    from benchmarks.faults import __main__ as command

    monkeypatch.setattr(command, "make_small_run", lambda folder: None)
    monkeypatch.setattr(command, "CAMPAIGNS", {"troubled": Troubled})
    monkeypatch.setattr(sys, "argv", ["faults", "--first", "3", "--count", "1", "--json", str(tmp_path / "f.json")])
    with pytest.raises(SystemExit) as ended:
        command.main()
    assert ended.value.code == 1
    assert "--only troubled --seed 2026 --first 3 --count 1" in capsys.readouterr().out
    noted = json.loads((tmp_path / "f.json").read_text())["campaigns"]["troubled"]
    assert noted["distinct_faults"] == 1 and noted["faults"]["a kind"]["shown"] == "what shows it"
