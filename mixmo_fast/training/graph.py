"""A whole training step as one CUDA graph: captured once, then replayed without Python or launches in between.

A graph reads and writes fixed addresses, so each batch is copied into tensors of its own.
"""

from collections.abc import Callable
from dataclasses import fields

import torch

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
    """

    def __init__(self, update: Callable[[Batch], None], device: torch.device):
        self._update = update
        self._stream = torch.cuda.Stream(device)
        self._device = device
        self._graph: torch.cuda.CUDAGraph | None = None
        self._batch: Batch | None = None
        self._taken = 0

    def __call__(self, batch: Batch) -> None:
        """Takes one step with this batch, whose shapes have to be those of the first one.

        Raises:
            DeviceError: The step cannot be captured.
        """
        own = self._copy(batch)
        if self._graph is None:
            self._prepare(own)
        else:
            self._graph.replay()

    def _copy(self, batch: Batch) -> Batch:
        """The batch in tensors of our own."""
        incoming = [getattr(batch, field.name) for field in fields(Batch)]
        if self._batch is None:
            self._batch = Batch(*(torch.empty_like(tensor) for tensor in incoming))
        for field, tensor in zip(fields(Batch), incoming, strict=True):
            getattr(self._batch, field.name).copy_(tensor)
        return self._batch

    def _prepare(self, batch: Batch) -> None:
        """One of the first steps: a plain one, or the capture and the first replay."""
        current = torch.cuda.current_stream(self._device)
        self._stream.wait_stream(current)
        if self._taken < _WARM_UP_STEPS:
            with torch.cuda.stream(self._stream):
                self._update(batch)
            self._taken += 1
        else:
            self._graph = self._capture(batch)
        current.wait_stream(self._stream)
        if self._graph is not None:
            self._graph.replay()

    def _capture(self, batch: Batch) -> torch.cuda.CUDAGraph:
        graph = torch.cuda.CUDAGraph()
        try:
            # Threads that draw plans pin memory meanwhile, which a stricter mode would forbid to all threads.
            with torch.cuda.graph(graph, stream=self._stream, capture_error_mode="thread_local"):
                self._update(batch)
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[0]
            raise DeviceError(
                f"the step cannot be captured as a CUDA graph here ({reason}); train with --set step.cuda_graph=false"
            ) from error
        return graph
