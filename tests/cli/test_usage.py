"""A command line that is wrong is one line: what was found, and what to write instead."""

import os
import signal
import subprocess
import sys
from contextlib import suppress

import pytest
import typer

from mixmo_fast import __version__

WRONG = {
    "train x.yaml --lr 0.1": "--lr: no such option; write --set optimizer.lr=0.1",
    "train x.yaml --epochs=2": "--epochs: no such option; write --set schedule.epochs=2",
    "train x.yaml --batch-size 64": "--batch-size: no such option; write --set batch.rows=64",
    "train x.yaml --batch_size 64": "--batch_size: no such option; write --set batch.rows=64",
    "train x.yaml --bs 64": "--bs: no such option; write --set batch.rows=64",
    "train x.yaml --learning-rate 1": "--learning-rate: no such option; write --set optimizer.lr=1",
    "train x.yaml --momentum 0.5": "--momentum: no such option; write --set optimizer.momentum=0.5",
    "train x.yaml --wd=0": "--wd: no such option; write --set optimizer.weight_decay=0",
    "benchmark x.yaml --batch-size 64": "--batch-size: no such option; write --set batch.rows=64",
    "evaluate x --lr 1": "--lr: no such option; it is optimizer.lr of the configuration, which `train --set` changes",
    "predict x y --batch-size 8": "--batch-size: no such option; it is batch.rows of the configuration, which "
    "`train --set` changes",
    "train x.yaml --gpu 1": "--gpu: no such option; write --device cuda, after CUDA_VISIBLE_DEVICES=N",
    "evaluate x --gpu 1": "--gpu: no such option; write --device cuda, after CUDA_VISIBLE_DEVICES=N",
    "status x --gpu 1": "--gpu: no such option",
    "train x.yaml --resume": "--resume: no such option; a run is continued by the command that started it",
    "reproduce x.yaml --resume": "--resume: no such option; a reproduction is continued by the command that started it",
    "train x.yaml --output y": "--output: no such option; a run is in the folder --runs, by its --name",
    "status x --output y": "--output: no such option",
    "train x.yaml --num_workers 2": "--num_workers: no such option; write --workers N",
    "evaluate x --name y": "--name: no such option; name the run by its folder, in place of the configuration's file",
    "evaluate x --dataset y": "--dataset: no such option; write --on DATASET",
    "reproduce x.yaml --seed 3": "--seed: no such option; write --seeds N,...",
    "benchmark x.yaml --seed 3": "--seed: no such option; write --set seed=3",
    "convert digits --output x": "--output: no such option; a data set goes into the folder --data",
    "export x --gpu 1": "--gpu: no such option",
    "evaluate x --workers 3": "--workers: no such option",
    "train x.yaml -lr 0.1": "-lr: no such option; write --set optimizer.lr=0.1",
    "train x.yaml lr=0.1": "lr=0.1: nothing more is expected; write --set optimizer.lr=0.1",
    "train x.yaml schedule.epochs=2": "schedule.epochs=2: nothing more is expected; write --set schedule.epochs=2",
    "train x.yaml y.yaml": "y.yaml: nothing more is expected",
    "status x y=1": "y=1: nothing more is expected",
    "train x.yaml --members": "--members: no such option; write --set network.members=VALUE",
    "train x.yaml --sed 3": "--sed: no such option, did you mean --seed",
    "status --lr 3": "--lr: no such option",
    "train x.yaml --seed abc": "--seed: found 'abc', allowed: a whole number",
    "benchmark x.yaml --seconds=abc": "--seconds: found 'abc', allowed: a number",
    "train": "CONFIG: missing; A configuration file, of this program or of mixmo-pytorch",
    "preview x.yaml": "--out: missing; The picture to write, e.g. preview.png",
    "trian": "no such command 'trian'; did you mean 'train'",
    "config explian x.yaml": "no such command 'explian'; did you mean 'explain'",
}


@pytest.mark.parametrize("line", WRONG)
def test_a_wrong_command_line_is_one_line_that_says_what_to_write(command, line):
    code, out, complaint = command(*line.split())
    known = line.split()[0] not in ("trian",)
    asked = f"{line.split()[0]} --help" if known else "--help"
    assert (code, out, complaint) == (2, "", f"mixmo-fast: {WRONG[line]}; see mixmo-fast {asked}\n")


@pytest.mark.parametrize("line", ["train x.yaml y.yaml", "train x.yaml --set", "config new --nothing \x1b[31m"])
def test_other_mistakes_are_one_line_too(command, line):
    code, out, complaint = command(*line.split())
    assert code == 2 and out == "" and complaint.startswith("mixmo-fast: ") and complaint.count("\n") == 1
    assert complaint.rstrip("\n").isprintable()


@pytest.mark.parametrize("words", [("-h",), ("--help",), ("train", "-h"), ("config", "explain", "-h")])
def test_help_has_a_short_name(command, words):
    code, out, complaint = command(*words)
    assert code == 0 and "Usage" in out and complaint == ""


@pytest.mark.parametrize("words", [("convert", "folder", "", "--name", "x"), ("status", ""), ("doctor", "--data", "")])
def test_an_empty_word_is_not_taken_for_the_folder_that_one_is_in(command, words):
    code, out, complaint = command(*words)
    assert (code, out) == (2, "") and complaint.startswith("mixmo-fast: found an empty word, allowed: none; ")


def test_the_version_is_said_at_once(command):
    assert command("--version") == (0, f"mixmo-fast {__version__}\n", "")


def test_ctrl_c_is_a_line_in_any_command(command, monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("mixmo_fast.doctor.examine.examine", interrupt)
    assert command("doctor") == (130, "", "mixmo-fast: interrupted\n")


@pytest.mark.parametrize("error", [KeyboardInterrupt, typer.Abort])
def test_ctrl_c_before_a_command_begins_is_the_same_line(command, monkeypatch, error):
    def interrupt(*_, **__):
        raise error

    monkeypatch.setattr("typer.main.get_command", interrupt)
    assert command("doctor") == (130, "", "mixmo-fast: interrupted\n")


def test_what_a_library_makes_of_ctrl_c_while_it_is_imported_is_ctrl_c(command, monkeypatch):
    def half_imported(*_, **__):
        with suppress(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        raise RecursionError("numpy is only half there")

    monkeypatch.setattr("mixmo_fast.doctor.examine.examine", half_imported)
    assert command("doctor") == (130, "", "mixmo-fast: interrupted\n")
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_completion_for_a_shell_can_be_had():
    """By the variable that shells' own set-ups use; `--show-completion` asks which shell it is started from."""
    asked = os.environ | {"_MIXMO_FAST_COMPLETE": "source_bash"}
    command = [sys.executable, "-m", "mixmo_fast"]
    done = subprocess.run(command, capture_output=True, text=True, env=asked, check=False)
    assert "_MIXMO_FAST_COMPLETE=complete_bash" in done.stdout
