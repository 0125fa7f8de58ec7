"""What several test files share."""

from pathlib import Path

import pytest
from lab import Lab

from pipelines.convert import convert


@pytest.fixture(scope="session")
def digits(tmp_path_factory) -> Path:
    """A data folder with the converted digits; nobody writes into it."""
    folder = tmp_path_factory.mktemp("data")
    convert("digits", folder, notify=lambda _: None)
    return folder


@pytest.fixture
def lab(tmp_path, digits) -> Lab:
    return Lab(tmp_path, digits)


@pytest.fixture(scope="session")
def trained(tmp_path_factory, digits) -> Lab:
    """A finished run that tests only look at."""
    place = Lab(tmp_path_factory.mktemp("trained"), digits)
    place.train()
    return place
