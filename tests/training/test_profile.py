"""`train --profile`: a trace and a table of some steps, of a run that stays the same."""

import gzip
import json
import re
from types import SimpleNamespace

import pytest
import torch
from lab import assert_same_tensors, read_history, repeatable
from torch.autograd import DeviceType

from mixmo_fast.errors import MixmoError
from mixmo_fast.training.profile import table


def test_a_profiled_run_is_the_same_and_leaves_a_trace_and_a_table(lab, trained):
    lab.train(profile=3)
    assert_same_tensors(lab.checkpoint(), trained.checkpoint())
    assert repeatable(read_history(lab.run)) == repeatable(read_history(trained.run))
    with gzip.open(lab.run / "profile_trace.json.gz") as file:
        names = [event.get("name", "") for event in json.load(file)["traceEvents"]]
    steps = {name for name in names if name.startswith("ProfilerStep#")}
    assert steps == {"ProfilerStep#6", "ProfilerStep#7", "ProfilerStep#8"}
    text = (lab.run / "profile.txt").read_text()
    assert text in lab.printed.getvalue()
    rows = re.findall(r"^ +([\d,.]+) ms +([\d.]+)% +([\d,]+)  (\S.*)$", text, flags=re.MULTILINE)
    assert len(rows) == 10
    times = [float(row[0].replace(",", "")) for row in rows]
    assert times == sorted(times, reverse=True)
    calls = {name: int(count.replace(",", "")) for _, _, count, name in rows}
    assert calls["aten::convolution_backward"] % 3 == 0 or calls["aten::mkldnn_convolution"] % 3 == 0


def test_a_gpus_table_counts_kernels_and_nothing_twice():
    def event(key: str, device: DeviceType, device_us: float, annotation: bool = False) -> SimpleNamespace:
        times = {"self_device_time_total": device_us, "self_cpu_time_total": 7}
        return SimpleNamespace(key=key, device_type=device, count=4, is_user_annotation=annotation, **times)

    class Average(SimpleNamespace):
        __hash__ = object.__hash__

    events = [
        event("aten::conv2d", DeviceType.CPU, 3000),
        event("gemm", DeviceType.CUDA, 3000),
        event("relu", DeviceType.CUDA, 1000),
        event("Optimizer.step", DeviceType.CUDA, 500, annotation=True),
    ]
    head, _, *rows = table([Average(**vars(one)) for one in events], torch.device("cuda"), 2)
    assert head == "The 2 dearest of 2 kernels in 2 steps, 4.0 ms in all:"
    assert [row.split() for row in rows] == [["3.00", "ms", "75.0%", "4", "gemm"], ["1.00", "ms", "25.0%", "4", "relu"]]


@pytest.mark.parametrize(
    ("steps", "said"), [(0, "found 0, allowed: a whole number at least 1"), (6, "found 6, allowed here: at most 5 ")]
)
def test_a_number_of_steps_that_cannot_be_is_one_line_and_leaves_the_folder_alone(lab, steps, said):
    with pytest.raises(MixmoError, match=f"--profile: {said}"):
        lab.train(profile=steps)
    assert not lab.run.exists()


def test_the_option_may_stand_alone_on_the_command_line(command, monkeypatch):
    asked = []
    monkeypatch.setattr("mixmo_fast.run.train.train_run", lambda *_, profile, **__: asked.append(profile))
    for words in (["--profile"], ["--profile", "--no-report"], ["--profile", 7], []):
        assert command("train", "x.yaml", *words)[0] == 0
    assert asked == [20, 20, 7, None]
