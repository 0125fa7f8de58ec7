"""The Dockerfile, read."""

import re

from places import REPOSITORY


def instructions() -> list[tuple[str, str]]:
    """Its instructions and what stands behind their names, continued lines joined and comments left out."""
    text = (REPOSITORY / "Dockerfile").read_text()
    lines = re.sub(r"^#.*\n", "", text, flags=re.MULTILINE).replace("\\\n", " ").splitlines()
    return [tuple(line.split(maxsplit=1)) for line in lines if line.strip()]


def arguments() -> dict[str, str]:
    """What may be given to a build, and what it is otherwise."""
    pairs = [rest.partition("=") for name, rest in instructions() if name == "ARG"]
    return {name: value for name, _, value in pairs}
