"""Several decoding processes at once, their answers in the order of what was asked.

Only a few requests are under way at any time, so memory stays small however many images there are. Legend: n images of
a request, S pixels of a side.
"""

import contextlib
import os
import pickle
import subprocess
import sys
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue
from types import TracebackType

import numpy as np

from mixmo_fast.cores import available_cores
from mixmo_fast.errors import DataError
from pipelines.datasets.own.decoder import Answer, Request
from pipelines.datasets.own.listing import shown

_WAITING = 2  # requests beyond those that are worked on


class Decoders:
    """Processes that decode; used in a `with` statement.

    Args:
        count: How many; None: one a core.
    """

    def __init__(self, count: int | None = None) -> None:
        self._count = count or available_cores()
        self._idle: SimpleQueue[_Decoder] = SimpleQueue()
        self._decoders: list[_Decoder] = []
        self._threads = ThreadPoolExecutor(self._count)

    def __enter__(self) -> "Decoders":
        for _ in range(self._count):
            self._decoders.append(_Decoder())
            self._idle.put(self._decoders[-1])
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for decoder in self._decoders:
            decoder.process.kill()
        self._threads.shutdown(cancel_futures=True)  # those that wait for an answer find that there is none
        for decoder in self._decoders:
            decoder.close()

    def map(self, requests: Iterable[Request]) -> Iterator[tuple[Request, Answer, np.ndarray]]:
        """Each request with its answer and pixels uint8 (n, S, S, 3), in order.

        Raises:
            DataError: A process died of one of its images.
        """
        waiting: deque[tuple[Request, Future]] = deque()
        for request in requests:
            waiting.append((request, self._threads.submit(self._ask, request)))
            if len(waiting) >= self._count + _WAITING:
                first, future = waiting.popleft()
                yield (first, *future.result())
        while waiting:
            first, future = waiting.popleft()
            yield (first, *future.result())

    def _ask(self, request: Request) -> tuple[Answer, np.ndarray]:
        decoder = self._idle.get()
        try:
            return decoder.ask(request)
        finally:  # one that is gone as well, so that nobody waits for it
            self._idle.put(decoder)


class _Decoder:
    """One of the processes."""

    def __init__(self) -> None:
        command = [sys.executable, "-P", "-m", "pipelines.datasets.own.decoder"]
        paths = os.pathsep.join(os.path.abspath(path) for path in sys.path)  # noqa: PTH100
        # What image libraries say of damaged files would come between the lines of the program.
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=os.environ | {"PYTHONPATH": paths},
        )
        assert self.process.stdin and self.process.stdout
        self._requests, self._answers = self.process.stdin, self.process.stdout

    def ask(self, request: Request) -> tuple[Answer, np.ndarray]:
        """The answer, and the pixels that follow it."""
        try:
            pickle.dump(tuple(request), self._requests)
            self._requests.flush()
            answer = Answer(*pickle.load(self._answers))
            pixels = np.frombuffer(self._answers.read(answer.pixel_bytes), np.uint8)
            if len(pixels) != answer.pixel_bytes:
                raise EOFError
        except (OSError, EOFError, pickle.UnpicklingError) as error:
            first, last = request.originals[0].name, request.originals[-1].name
            raise DataError(
                f"decoding ended with {self.process.wait()} at one of the images from {shown(first)} to {shown(last)}: "
                "too little memory, or a file that the image library cannot stand"
            ) from error
        return answer, pixels.reshape(-1, request.size, request.size, 3) if request.size else pixels

    def close(self) -> None:
        """Waits for its end and closes what led to it."""
        self.process.wait()
        for pipe in (self._requests, self._answers):
            with contextlib.suppress(OSError):  # what was still to be written to one that is gone
                pipe.close()
