"""How long a run will take, from speeds that were measured and nothing else.

A speed belongs to a network: rows per second times MACs per row carries over to another network of the same family of
machines only roughly, since small networks fill a GPU less; such an estimate is marked as one "by work".

Units: rows per second of training, evaluation excluded.
"""

import json
import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from mixmo_fast.config.schema import AnyNetwork, NetworkConfig
from mixmo_fast.errors import MixmoError
from mixmo_fast.files import open_regular
from mixmo_fast.networks.kinds import network_of_short_name
from mixmo_fast.reproduce.plan import PlannedRun
from mixmo_fast.runfolder.names import SHARED_GPU, SUMMARY
from mixmo_fast.runfolder.record import read_record
from mixmo_fast.runfolder.records import RunSummary

MEASURE = "python -m benchmarks.training --network wrn-28-10 --members 2 --json FILE.json"
"""The command that measures; its file is what `--measured` takes."""

_SAME = 0.02  # heads of 10, 100 or 200 classes differ by less than this in MACs, images of another size by far more


@dataclass(frozen=True)
class Speed:
    """A measured speed of training.

    Attributes:
        network: What was trained, members included.
        macs: Multiply-accumulates of one row's forward pass.
        rows_per_second: Median.
        source: Where it was measured, for people.
    """

    network: AnyNetwork
    macs: int
    rows_per_second: float
    source: str


@dataclass(frozen=True)
class Estimate:
    """How long a run takes on the machine that was measured.

    Attributes:
        hours: Of one worker for the whole training.
        basis: `measured` on this network, or carried over from another one `by work`.
        source: Where it was measured, for people.
    """

    hours: float
    basis: Literal["measured", "by work"]
    source: str


class _Contestant(BaseModel):
    rows_per_second: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None


class _Benchmark(BaseModel):
    """The part of a result of `benchmarks.training` that is of use here."""

    network: str
    members: int = Field(ge=1, le=16)
    macs_per_row: int = Field(ge=1)
    device: str = "an unknown device"
    contestants: dict[str, _Contestant]


_BENCHMARK = TypeAdapter(_Benchmark)


def read_speed(path: Path) -> Speed:
    """The speed of the default step in a result of `python -m benchmarks.training --json`.

    Raises:
        MixmoError: When the file cannot be read, is something else, or that step could not be measured.
    """
    try:
        with open_regular(path) as file:
            found = _BENCHMARK.validate_python(json.loads(file.read()))
    except OSError as error:
        raise MixmoError(f"--measured {path}: cannot read: {error.strerror}") from error
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise MixmoError(f"--measured {path}: {where}: {first['msg']}; allowed: a result of `{MEASURE}`") from None
    except ValueError as error:
        raise MixmoError(f"--measured {path}: no JSON ({error}); allowed: a result of `{MEASURE}`") from error
    default = found.contestants.get("default", _Contestant())
    network = network_of_short_name(found.network)
    if default.rows_per_second is None or network is None:
        what = f"the network {found.network!r}" if network is None else "no speed of the default step"
        raise MixmoError(f"--measured {path}: found {what}, allowed: a result of `{MEASURE}`")
    trained = NetworkConfig(**network, members=found.members)
    return Speed(trained, found.macs_per_row, default.rows_per_second, f"{path.name}, {found.device}")


def speeds_of_runs(runs: Iterable[PlannedRun], out: Path) -> tuple[Speed, ...]:
    """The speeds of the runs that are complete in a reproduction's folder; others, and damaged ones, tell nothing.

    Nor do those that shared their GPU: how much of it they had is not known.
    """
    speeds = []
    for run in runs:
        try:
            summary = read_record(run.folder(out) / SUMMARY, RunSummary)
        except MixmoError:
            continue
        if (run.folder(out) / SHARED_GPU).exists():
            continue
        if summary and (summary.epochs or 0) >= run.epochs and summary.device and summary.rows_per_second:
            where = f"runs in {out}, {summary.device}"
            speeds.append(Speed(run.config.network, run.size.macs, summary.rows_per_second, where))
    return tuple(speeds)


def estimate(run: PlannedRun, speeds: Sequence[Speed]) -> Estimate | None:
    """How long a run takes; None where nothing was measured.

    From the median of the speeds of its own network at its own size of image. Where there is none, the network whose
    MACs a row are nearest, by ratio, tells how many MACs a second there are.

    Args:
        run: The run.
        speeds: Measured; the more trusted first.
    """
    if not speeds:
        return None
    macs = run.size.macs
    own = [one for one in speeds if one.network == run.config.network and abs(one.macs / macs - 1) < _SAME]
    if own:
        trusted = [one for one in own if one.source == own[0].source]
        rate = statistics.median(one.rows_per_second * one.macs / macs for one in trusted)
        return Estimate(run.rows / rate / 3600, "measured", own[0].source)
    nearest = min(speeds, key=lambda one: abs(math.log(one.macs / macs)))
    rate = nearest.rows_per_second * nearest.macs / macs
    return Estimate(run.rows / rate / 3600, "by work", nearest.source)
