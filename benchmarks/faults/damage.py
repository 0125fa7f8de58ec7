"""What can happen to a file's bytes, or to a file: the damage that several campaigns do."""

import os
import random
from collections.abc import Callable, Sequence
from pathlib import Path

BLOCK = 512  # bytes, as a disk loses them

Damage = Callable[[random.Random, bytearray], None]


def damaged(draw: random.Random, content: bytes, most: int = 3, words: Sequence[bytes] = ()) -> bytes:
    """The content after up to `most` sorts of damage; now and then it is what it was.

    Args:
        draw: Decides.
        content: What is damaged.
        most: How often.
        words: What may also be put in somewhere.
    """
    changed = bytearray(content)
    for _ in range(draw.randint(1, most)):
        if words and draw.random() < 0.2:
            at = _place(draw, changed)
            changed[at:at] = draw.choice(words)
        else:
            draw.choice(_DAMAGES)(draw, changed)
    return bytes(changed)


def _flip_bit(draw: random.Random, content: bytearray) -> None:
    if content:
        content[_place(draw, content)] ^= 1 << draw.randrange(8)


def _set_bytes(draw: random.Random, content: bytearray) -> None:
    for _ in range(draw.randint(1, 8)):
        if content:
            content[_place(draw, content)] = draw.choice((0, 255, draw.randrange(256)))


def _cut(draw: random.Random, content: bytearray) -> None:
    del content[draw.choice((_place(draw, content), max(0, len(content) - draw.randint(1, 64)))) :]


def _extend(draw: random.Random, content: bytearray) -> None:
    content += draw.choice((bytes(draw.randint(1, BLOCK)), draw.randbytes(draw.randint(1, BLOCK)), content[:BLOCK]))


def _zero_block(draw: random.Random, content: bytearray) -> None:
    at = _place(draw, content)
    length = min(draw.choice((16, BLOCK, 8 * BLOCK)), len(content) - at)
    content[at : at + length] = bytes(length)


def _swap_blocks(draw: random.Random, content: bytearray) -> None:
    blocks = len(content) // BLOCK
    if blocks > 1:
        one, other = (BLOCK * draw.randrange(blocks) for _ in range(2))
        kept = content[one : one + BLOCK]
        content[one : one + BLOCK] = content[other : other + BLOCK]
        content[other : other + BLOCK] = kept


def _insert(draw: random.Random, content: bytearray) -> None:
    at = _place(draw, content)
    content[at:at] = draw.randbytes(draw.randint(1, 16))


def _take_out(draw: random.Random, content: bytearray) -> None:
    at = _place(draw, content)
    del content[at : at + draw.randint(1, 16)]


_DAMAGES: tuple[Damage, ...] = (*(_flip_bit, _set_bytes, _cut, _extend, _zero_block, _swap_blocks, _insert, _take_out),)


def _place(draw: random.Random, content: bytearray) -> int:
    """Anywhere, and as often near the beginning or the end, where formats keep what readers go by."""
    size = max(1, len(content))
    near = draw.randrange(min(size, 256))
    return draw.choice((draw.randrange(size), near, size - 1 - near))


def _nothing(path: Path) -> None:
    """Leaves the place empty."""


def _looped(path: Path) -> None:
    path.symlink_to(path.name)


def _broken(path: Path) -> None:
    path.symlink_to("nowhere")


def _endless(path: Path) -> None:
    path.symlink_to("/dev/zero")


def _always_empty(path: Path) -> None:
    path.symlink_to("/dev/null")


OTHER_KINDS: dict[str, Callable[[Path], None]] = {
    "nothing": _nothing,
    "folder": Path.mkdir,
    "pipe": os.mkfifo,
    "link to itself": _looped,
    "broken link": _broken,
    "link to /dev/zero": _endless,
    "link to /dev/null": _always_empty,
}
"""What may stand in a file's place; each is given a path at which there is nothing."""
