"""What several test files share."""

from pathlib import Path

import pytest

from pipelines.convert import convert


@pytest.fixture(scope="session")
def digits(tmp_path_factory) -> Path:
    """A data folder with the converted digits; nobody writes into it."""
    folder = tmp_path_factory.mktemp("data")
    convert("digits", folder, notify=lambda _: None)
    return folder
