"""What a campaign is: inputs drawn from a seed, one by one, and what may happen with each.

An input is known by its campaign, the seed and its number, so a fault is shown again by these three alone.
"""

import random
import traceback
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor

from mixmo_fast.errors import MixmoError

LONGEST_LINE = 2000  # characters of what a user is told
_OURS = ("mixmo_fast", "pipelines")

Result = TypeVar("Result")


class Fault(Exception):
    """What must not happen.

    Args:
        kind: In few words, the same for all inputs that show the same.
        shown: What shows it in this one.
    """

    def __init__(self, kind: str, shown: str = ""):
        super().__init__(f"{kind}: {shown}" if shown else kind)
        self.kind = kind
        self.shown = shown


class Campaign(ABC):
    """Inputs of one sort.

    Attributes:
        name: As `--only` has it.
        title: What is tried, in a line.
        inputs: How many a whole campaign has.
        seconds: The longest that one may take.
        memory: The most that one may take, bytes: a small file must not ask for more.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    inputs: ClassVar[int]
    seconds: ClassVar[float] = 20.0
    memory: ClassVar[int] = 2 * 2**30

    def prepare(self, small: Path) -> None:  # noqa: B027  # most need nothing
        """Makes what all inputs have in common.

        Args:
            small: Has the converted digits in `data/`, a finished run of two epochs in `runs/small` and its
                configuration `small.yaml`, which stay as they are; a campaign may add folders.
        """

    @abstractmethod
    def attempt(self, draw: random.Random, number: int, folder: Path) -> str:
        """Tries one input.

        Args:
            draw: Decides what the input is, and nothing else does.
            number: Of the input, from 0, for those who take turns.
            folder: Empty, and removed afterwards.

        Returns:
            What happened, in a word or two: `refused`, `accepted` and so on; these are counted.

        Raises:
            Fault: What must not happen. Any other exception is one, too.
        """


def outcome(work: Callable[[], Result]) -> Result | MixmoError:
    """What some work gives, or its refusal in a line.

    Raises:
        Fault: It was refused in more than a line, or in one that a terminal cannot show.
    """
    try:
        return work()
    except MixmoError as error:
        check_line(str(error))
        return error


def check_line(line: str) -> None:
    """Takes exception to what is no line for a user."""
    if not line.strip() or "\n" in line.strip() or len(line) > LONGEST_LINE:
        raise Fault("refused in no line, or in a long one", repr(line[:300]))
    if any(ord(letter) < 32 or ord(letter) == 127 for letter in line.strip()):
        raise Fault("refused with control characters", repr(line[:300]))


def kind_of(error: BaseException) -> str:
    """An exception's type, and the innermost place of this program that it went through."""
    frames = traceback.extract_tb(error.__traceback__)
    for frame in reversed(frames):
        parts = Path(frame.filename).parts
        own = [at for at, part in enumerate(parts) if part in _OURS and "site-packages" not in parts]
        if own:
            return f"{type(error).__name__} in {'/'.join(parts[own[-1] :])}, {frame.name}"
    return f"{type(error).__name__} in {frames[-1].name if frames else 'nothing'}"


def differing(one: Any, other: Any, where: str = "") -> str | None:
    """Where two nestings of plain values and tensors differ; None: nowhere."""
    if type(one) is not type(other):
        return f"{where}: {type(one).__name__} and {type(other).__name__}"
    if isinstance(one, Tensor):
        return None if one.dtype == other.dtype and torch.equal(one, other) else f"{where}: a tensor"
    if isinstance(one, dict):
        if one.keys() != other.keys():
            return f"{where}: other keys"
        found = (differing(one[key], other[key], f"{where}.{key}") for key in one)
        return next((line for line in found if line), None)
    if isinstance(one, list | tuple):
        if len(one) != len(other):
            return f"{where}: another length"
        found = (differing(*pair, f"{where}.{at}") for at, pair in enumerate(zip(one, other, strict=True)))
        return next((line for line in found if line), None)
    return None if one == other else f"{where}: {one!r:.50} and {other!r:.50}"
