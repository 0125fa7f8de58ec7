"""Whole runs of a library's network: trained from the command line, evaluated, inspected, gone on with, read."""

import itertools
import sys

import pytest
import torch
from lab import Lab, assert_same_tensors

import mixmo_fast as mf
from mixmo_fast.cli import app as cli
from mixmo_fast.training import loop
from mixmo_fast.training.progress import RunProgress

RESNET18 = """
data: {dataset: digits, holdout: 0.8}
network: {kind: timm, name: resnet18, members: 2}
mixing: {method: patch}
batch: {rows: 64}
optimizer: {lr: 0.02, weight_decay: 0.0005}
schedule: {epochs: 1, warmup_steps: 2}
"""
WITH_DROPOUT = """
data: {dataset: digits, holdout: 0.8}
network: {kind: torchvision, name: mobilenet_v3_small, members: 2}
mixing: {method: linear}
batch: {rows: 64}
optimizer: {lr: 0.02, weight_decay: 0.0005}
schedule: {epochs: 2, warmup_steps: 2}
"""


@pytest.fixture
def run(tmp_path, digits, monkeypatch, capsys):
    """Runs a command in a folder with the digits: (exit code, stdout, stderr)."""
    (tmp_path / "data").symlink_to(digits)
    monkeypatch.chdir(tmp_path)

    def command(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["mixmo-fast", *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            cli.main()
            sys.exit(0)
        out, err = capsys.readouterr()
        return stopped.value.code, out, err

    return command


def refused(result: tuple[int, str, str], *parts: str) -> bool:
    code, _, err = result
    return code == 2 and len(err.splitlines()) == 1 and all(part in err for part in parts)


@pytest.mark.slow
def test_a_run_of_timm_is_trained_evaluated_inspected_and_read(run, tmp_path):
    (tmp_path / "tiny.yaml").write_text(RESNET18)
    code, out, err = run("train", "tiny.yaml", "--device", "cpu")
    assert code == 0, err
    assert "11,196,180 parameters, 2 members" in out
    page = (tmp_path / "runs/tiny/report.html").read_text()
    assert "timm&#39;s resnet18, 2 members" in page
    for command in (("evaluate", "runs/tiny"), ("inspect", "tiny.yaml"), ("config", "explain", "tiny.yaml")):
        code, out, err = run(*command)
        assert code == 0, err
    assert "The network is timm's resnet18, and starts from fresh weights." in out
    assert "a 7x7 convolution from 3 to 64 channels" in " ".join(out.split())
    assert refused(
        run("checkpoint", "export", "runs/tiny", "-o", "theirs.ckpt"), "found network.kind timm, which mixmo-pytorch"
    )
    network = mf.open_run("runs/tiny").network()
    assert network(torch.zeros(1, 3, 16, 16)).shape == (1, 2, 10)
    assert all(torch.isfinite(tensor).all() for tensor in network.state_dict().values())
    code, out, err = run("train", "tiny.yaml", "--device", "cpu")
    assert code == 0 and "is complete" in out
    other = ("--set", "network.name=resnet10t", "--runs", "others")
    assert refused(run("train", "tiny.yaml", *other, "--init", "runs/tiny/checkpoints/last.pt"), "of another network")
    elsewhere = ("--runs", "others")
    assert refused(
        run("train", "tiny.yaml", "--set", "network.name=resnet19", *elsewhere), "timm has no network 'resnet19'"
    )
    wrong = run("train", "tiny.yaml", "--from-scratch", "--set", "step.precision=bf16", "--device", "cpu")
    if torch.cpu.get_capabilities().get("avx512_bf16"):
        assert refused(wrong, "step.precision: found bf16", "stride is longer than the map (layer4.0.conv1)")


def test_a_run_with_dropout_goes_on_to_the_bit(tmp_path, digits, monkeypatch):
    folders = [tmp_path / "whole", tmp_path / "stopped"]
    for folder in folders:
        folder.mkdir()
    whole, stopped = (Lab(folder, digits, WITH_DROPOUT) for folder in folders)
    whole.train()
    told = RunProgress.epoch

    def stop(self, row) -> None:
        told(self, row)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(RunProgress, "epoch", stop)
        with pytest.raises(KeyboardInterrupt):
            stopped.train()
    torch.rand(3)  # as another process would have drawn something else
    stopped.train()
    assert_same_tensors(stopped.checkpoint(), whole.checkpoint())


@pytest.mark.slow
def test_a_transformer_is_trained_and_says_what_does_not_apply_to_it(run, tmp_path):
    (tmp_path / "tiny.yaml").write_text(RESNET18.replace("resnet18", "vit_tiny_patch16_224"))
    code, out, err = run("train", "tiny.yaml", "--device", "cpu", "--no-report")
    assert code == 0, err
    code, out, err = run("inspect", "runs/tiny")
    assert code == 0, err
    assert "the trunk has no convolutions" in out
    assert mf.open_run("runs/tiny").network()(torch.zeros(1, 3, 16, 16)).shape == (1, 2, 10)


def test_layers_draw_anew_in_each_step_and_rank():
    config = mf.load_config(
        {**mf.load_config("exp_cifar10_wrn2810_1net_standard_bar1").model_dump(), "seed": 2**63 - 1}
    )
    steps = itertools.product((0, 1), (1, 2, 3), (0, 1))
    seeds = {loop._seed_of_layers(config, *step) for step in steps}
    assert len(seeds) == 12 and all(-(2**63) <= seed < 2**63 for seed in seeds)
