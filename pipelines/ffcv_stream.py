"""FFCV's loader as a stream: lists of image numbers go in, pixels come out. Imported only where FFCV is needed.

`ffcv.loader.Loader` takes one list for a whole epoch, cuts it into batches of one size and reads each into one of a few
buffers that it uses in turn. Here its own iterator, with its own thread and compiled reading, is asked for one list
after the other, and reads each into memory of its own. So a batch is exactly what a few training steps need, nobody has
to know the lists of an epoch before it begins, and memory is free when nobody refers to it any more.

What FFCV 1.0.2 does that the rest of the program must not notice:

- importing it, making a loader and starting an iterator set torch's and numba's number of threads for the process:
  `threads_kept` and `ImageStream._lists` set them back;
- an error in its thread lets whoever waits for a batch wait for ever: `ImageStream.take` looks whether it still lives;
- an iterator that is not used up keeps its thread: `ImageStream.end` ends it;
- the file stays mapped as long as anything knows the loader: `ImageFile.close` lets go of it.

Shapes: n images of a list, H W pixels, C = 3 channels.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any

import numba
import numpy as np
import torch
from torch import Tensor

from mixmo_fast.errors import DataError
from pipelines.datasets.beton import IMAGE_FIELD, LABEL_FIELD


@contextmanager
def threads_kept() -> Iterator[None]:
    """Leaves this thread's numbers of threads of torch and numba as they were."""
    torch_threads, numba_threads = torch.get_num_threads(), numba.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(torch_threads)
        numba.set_num_threads(numba_threads)


with threads_kept():
    from ffcv.fields.rgb_image import SimpleRGBImageDecoder
    from ffcv.loader import Loader
    from ffcv.loader.epoch_iterator import EpochIterator

_SECONDS_BETWEEN_LOOKS = 0.2


class ImageFile:
    """The images of a .beton file; labels are left alone.

    FFCV reads whatever is there: check the file before (`pipelines.datasets.beton_check`).

    Args:
        path: The file.
        ahead: Lists that are asked for before the first of them is taken.
        workers: Threads that copy pixels; None means as many as there are cores.
        cache: `os` maps the file into memory and leaves it to the operating system which pages to keep. `process` reads
            pages of 2 MiB with threads of FFCV's own, each once in an epoch, and keeps a page from its first use to its
            last; with images in a shuffled order, that is soon all of the file.
        pinned: Whether a GPU is to copy from the images' memory.
    """

    def __init__(self, path: Path, ahead: int, workers: int | None, cache: str, pinned: bool):
        self.path, self.cache, self.pinned = path, cache, pinned
        most = numba.config.NUMBA_NUM_THREADS
        workers = most if workers is None else min(workers, most)
        if numba.threading_layer() == "workqueue":
            workers = 1  # it ends the program when two threads use it at once, as two epochs' streams might
        with threads_kept():
            self._loader = Loader(
                str(path),
                batch_size=1,  # of the buffers that FFCV makes and nobody uses
                num_workers=workers,
                os_cache=cache == "os",
                seed=0,  # of no order that is used here; without one, FFCV draws it from numpy's global state
                pipelines={IMAGE_FIELD: [SimpleRGBImageDecoder()], LABEL_FIELD: None},
                batches_ahead=ahead,
            )

    def stream(self, lists: Sequence[np.ndarray]) -> "ImageStream":
        """A thread that reads.

        Args:
            lists: All that it will be asked for, which `process` needs to know and `os` does not.

        Raises:
            DataError: The file is not there any more, or does not fit the memory (`process`).
        """
        try:
            with self.path.open("rb"):  # FFCV's threads would find out, and go on without it
                pass
            return ImageStream(self._loader, lists, self.pinned, torch.get_num_threads())
        except OSError as error:
            raise DataError(f"{self.path}: cannot be read ({error.strerror})") from error
        except MemoryError as error:
            raise DataError(f"{self.path}: ffcv finds no memory for its pages; use the cache of the system") from error

    def close(self) -> None:
        """Lets go of the file, which no stream may be reading."""
        if self.cache == "os":
            self._loader.memory_manager.context.mmap = None
        del self._loader


class ImageStream(EpochIterator):
    """FFCV's iterator, and thread, over lists that it is asked for; see `ImageFile.stream`."""

    memory_context: Any  # FFCV's, as the next two
    memory_allocations: Any
    storage_state: Any

    def __init__(self, loader: Loader, lists: Sequence[np.ndarray], pinned: bool, torch_threads: int):
        self._pinned, self._torch_threads = pinned, torch_threads
        self._asked: SimpleQueue[tuple[np.ndarray, np.ndarray] | None] = SimpleQueue()
        self._expected: deque[Tensor] = deque()
        self._error: BaseException | None = None
        try:
            super().__init__(loader, _Cut(lists))
        except BaseException:
            self._close()
            raise

    def start(self) -> None:
        """Starts the thread; called by FFCV when all else is ready."""
        self.iter_ixes = self._lists()
        ((self._decoder, buffers),) = self.memory_allocations["operation"].items()
        self._buffers, self._size = len(buffers), buffers.shape[2:]
        super().start()

    def run(self) -> None:
        """What the thread does: as FFCV has it, but for errors, which it would print and nobody would hear of."""
        try:
            super().run()
        except BaseException as error:
            self._error = error

    def ask(self, numbers: np.ndarray) -> None:
        """Orders images: int64 (n,)."""
        images = torch.empty((len(numbers), *self._size), dtype=torch.uint8, pin_memory=self._pinned)
        self._expected.append(images)
        self._asked.put((numbers, images.numpy()))

    def take(self) -> Tensor:
        """The images of the next list: uint8 (n, H, W, C).

        Raises:
            DataError: FFCV's threads failed.
        """
        while True:
            try:
                self.output_queue.get(timeout=_SECONDS_BETWEEN_LOOKS)
                return self._expected.popleft()
            except Empty:
                if not self.is_alive() or self._reader_failed():
                    reason = repr(self._error) if self._error else "a thread of its own ended"
                    raise DataError(f"{self.loader.fname}: ffcv stopped reading it ({reason})") from self._error

    def end(self) -> None:
        """Ends the threads, however many lists were taken."""
        self.terminate_event.set()
        self._asked.put(None)
        while self.is_alive():
            if self._reader_failed():  # whoever waits for one of its pages is told that it has come
                executor = self.memory_context.executor
                for page in executor.schedule.page_to_slot:
                    executor.loaded_queue.put(page)
            with suppress(Empty):
                self.output_queue.get(timeout=_SECONDS_BETWEEN_LOOKS)
        readers = self._readers()
        self._close()
        for reader in readers:
            reader.join()

    def _lists(self) -> Iterator[np.ndarray]:
        """What FFCV's thread goes through: each list, after its memory has been laid where FFCV takes its buffers."""
        torch.set_num_threads(self._torch_threads)  # FFCV has just set it for the process
        while (asked := self._asked.get()) is not None:
            numbers, images = asked
            self.memory_allocations["operation"][self._decoder] = [images] * self._buffers
            yield numbers

    def _readers(self) -> list[Thread]:
        """FFCV's threads that read pages."""
        return getattr(getattr(getattr(self, "memory_context", None), "executor", None), "threads", [])

    def _reader_failed(self) -> bool:
        return not all(reader.is_alive() for reader in self._readers())

    def _close(self) -> None:
        """As FFCV's `close`, but once: it is called again when the iterator is collected."""
        if self._readers():
            self.close()
        self.closed = True
        self.memory_context = self.storage_state = self.memory_allocations = None
        self._expected.clear()


class _Cut:
    """Lists as one sequence, which FFCV cuts into pieces of one: each piece is a list."""

    def __init__(self, lists: Sequence[np.ndarray]):
        self._lists = lists

    def __len__(self) -> int:
        return len(self._lists)

    def __getitem__(self, piece: slice) -> np.ndarray:
        return self._lists[piece.start]
