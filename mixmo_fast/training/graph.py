"""A whole training step as one CUDA graph: captured once, then replayed without Python or launches in between.

A graph reads and writes fixed addresses, so each batch is copied into tensors of its own.
"""

from collections.abc import Callable
from dataclasses import fields

import torch
from torch import Tensor

from mixmo_fast.batch import Batch
from mixmo_fast.errors import DeviceError

# Steps that run before the capture, on the stream of the capture: they compile, choose algorithms, and allocate what
# an optimiser allocates in its first step. They train like any other.
_WARM_UP_STEPS = 3


class GraphedUpdate:
    """Calls a function of a batch, from some point on by replaying what it did on the device.

    Args:
        update: Takes one step. It may not wait for the device, and everything that it keeps is overwritten in place.
        device: A CUDA device.
        refused: Called with the reason when the step cannot be captured; this step and all others are then plain
            ones. None: that is an error.
    """

    def __init__(
        self, update: Callable[[Batch], None], device: torch.device, refused: Callable[[str], None] | None = None
    ):
        self._update = update
        self._stream = torch.cuda.Stream(device)
        self._device = device
        self._refused = refused
        self._graph: torch.cuda.CUDAGraph | None = None
        self._batch: Batch | None = None
        self._taken = 0
        self._captures = True

    def __call__(self, batch: Batch) -> None:
        """Takes one step with this batch, whose shapes have to be those of the first one.

        Raises:
            DeviceError: The step cannot be captured.
        """
        if not self._captures:
            self._update(batch)
            return
        if self._batch is None:
            self._batch = Batch(*(torch.empty_like(getattr(batch, field.name)) for field in fields(Batch)))
        copy_batch(batch, self._batch)
        if self._taken < _WARM_UP_STEPS:
            self._warm_up(self._batch)
        elif self._graph is None:
            self._capture_or_go_on(self._batch)
        if self._graph is not None:
            self._graph.replay()

    def _warm_up(self, batch: Batch) -> None:
        """One of the first steps: a plain one."""
        current = torch.cuda.current_stream(self._device)
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            self._update(batch)
        current.wait_stream(self._stream)
        self._taken += 1

    def _capture_or_go_on(self, batch: Batch) -> None:
        try:
            self._graph = self._capture(batch)
        except RuntimeError as error:
            reason = _first_reason(error)
            if self._refused is None:
                raise DeviceError(
                    f"the step cannot be captured as a CUDA graph here ({reason}); train with --set "
                    "step.cuda_graph=false"
                ) from error
            self._captures = False
            self._refused(reason)
            self._update(batch)

    def _capture(self, batch: Batch) -> torch.cuda.CUDAGraph:
        graph = torch.cuda.CUDAGraph()
        # Threads that draw plans pin memory meanwhile, which a stricter mode would forbid to all threads.
        with torch.cuda.graph(graph, stream=self._stream, capture_error_mode="thread_local"):
            self._update(batch)
        return graph


def copy_batch(source: Batch, target: Batch) -> None:
    """Copies all fields, on CUDA in one launch: as lists of words, which may be copied together whatever they mean.

    Args:
        source: Any batch.
        target: One of the same shapes and dtypes; overwritten.
    """
    words: tuple[list[Tensor], list[Tensor]] = ([], [])
    for field in fields(Batch):
        pair = getattr(source, field.name), getattr(target, field.name)
        as_words = [_words(tensor) for tensor in pair]
        if pair[0].stride() == pair[1].stride() and as_words[0] is not None and as_words[1] is not None:
            words[0].append(as_words[0])
            words[1].append(as_words[1])
        elif pair[0].numel():
            pair[1].copy_(pair[0])
    torch._foreach_copy_(words[1], words[0])


def _words(tensor: Tensor) -> Tensor | None:
    """The tensor's memory as int32 (n,); None for what is no multiple of that, or not in one piece."""
    if tensor.ndim == 4 and tensor.is_contiguous(memory_format=torch.channels_last):
        tensor = tensor.permute(0, 2, 3, 1)
    if not tensor.numel() or not tensor.is_contiguous() or tensor.nbytes % 4 or tensor.data_ptr() % 4:
        return None
    return tensor.view(-1).view(torch.int32)


def _first_reason(error: BaseException) -> str:
    """What began it, in one line: ending a capture that failed fails as well, which says nothing."""
    while error.__context__ is not None:
        error = error.__context__
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
