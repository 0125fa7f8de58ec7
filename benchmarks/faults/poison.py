"""Values and words that no program expects, and damage to nested values: what several campaigns draw from."""

import random
from collections.abc import Iterator
from typing import Any

_NESTED: list[Any] = []
for _ in range(60):
    _NESTED = [_NESTED]

VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 2**31, 2**63, 2**70, -(2**70), 10**400),
    *(0.0, -0.0, 0.5, 1e-320, 1e308, -1e308, float("inf"), float("-inf"), float("nan")),
    *("", " ", "x", "64", "null", "None", "NaN", "../../x", "/", "\x00", "\x1b[31mred", "\u202e", "\n", "é" * 3000),
    *([], [None], [1, "x"], {}, {"": None}, {"a": {"b": []}}, _NESTED),
)

WORDS = (
    *(
        b"!!python/object/apply:os.system [touch owned]",
        b"&a [*a, *a]",
        b"<<: {a: 1}",
        b"? [a]\n: b",
        b"---\n",
        b"...\n",
    ),
    *(b"010", b"1_000", b"1:30", b"0x10", b"2020-01-01", b"!!binary aGk=", b"%YAML 1.1\n", b"\t", b"\r\n", b"\x85"),
    *(b"\xff\xfe", b"\xef\xbb\xbf", b"\x00", b"\x1b[2J", b"{", b"}", b"[", b"]", b": ", b"- ", b"|\n", b"\xed\xa0\x80"),
    *(b"'", b'"', b"`", b"@", b"=" * 70_000, b"[" * 5_000, b"9" * 5_000, b"1e999999999", b".nan", b"-.inf"),
)


def places(tree: object, above: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """The path of everything in nested dictionaries and lists, the whole first."""
    yield above
    if isinstance(tree, dict):
        for key, value in tree.items():
            yield from places(value, (*above, key))
    elif isinstance(tree, list | tuple):
        for number, value in enumerate(tree):
            yield from places(value, (*above, number))


def changed(tree: Any, path: tuple[str | int, ...], value: Any) -> Any:
    """The same with another value at a path; nothing of `tree` is changed."""
    if not path:
        return value
    first, rest = path[0], path[1:]
    if isinstance(tree, dict):
        return {**tree, first: changed(tree.get(first), rest, value)}
    parts = list(tree)
    parts[int(first)] = changed(parts[int(first)], rest, value)
    return parts


def without(tree: Any, path: tuple[str | int, ...]) -> Any:
    """The same without what is at a path, which is not the whole."""
    first, rest = path[0], path[1:]
    if rest:
        return changed(tree, (first,), without(tree[first], rest))
    if isinstance(tree, dict):
        return {key: value for key, value in tree.items() if key != first}
    return [value for number, value in enumerate(tree) if number != first]


def damaged_tree(draw: random.Random, tree: Any, values: tuple[Any, ...] = VALUES) -> Any:
    """The same with one to three places changed, left out, added to or exchanged."""
    for _ in range(draw.choice([1, 1, 1, 2, 3])):
        paths = list(places(tree))
        path = draw.choice(paths)
        match draw.randrange(9):
            case 0 if path:
                tree = without(tree, path)
            case 1 if path and isinstance(path[-1], str):
                word = path[-1]
                at = draw.randrange(len(word) + 1)
                near = draw.choice([word[:at] + word[at + 1 :], word[:at] + "x" + word[at:], word.upper(), ""])
                tree = changed(without(tree, path), (*path[:-1], near), draw.choice(values))
            case 2:
                tree = changed(tree, path, at_path(tree, draw.choice(paths)))
            case 3 | 4 | 5 if (number := at_path(tree, path)) is not True and isinstance(number, int | float):
                factor = draw.choice([0, 1e-6, 0.5, 2, 3, 10, 1e6])
                tree = changed(tree, path, type(number)(number * factor))
            case _:
                tree = changed(tree, path, draw.choice(values))
        if not isinstance(tree, dict | list) or not tree:
            break
    return tree


def at_path(tree: Any, path: tuple[str | int, ...]) -> Any:
    """What is at a path."""
    for key in path:
        tree = tree[key]
    return tree
