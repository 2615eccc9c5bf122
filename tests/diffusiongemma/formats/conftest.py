"""Fixtures that the tests of checkpoints share."""

from pathlib import Path

import pytest

from tests.diffusiongemma.formats.folders import CONFIGS, make_adapter, make_folder


@pytest.fixture(scope="session")
def two(tmp_path_factory) -> Path:
    """A released folder of the shape "two"; tests leave it as it is."""
    return make_folder(tmp_path_factory.mktemp("formats") / "two", "two")


@pytest.fixture
def adapter(two, tmp_path) -> Path:
    """An adapter for "two", to be spoilt."""
    return make_adapter(tmp_path / "adapter", CONFIGS["two"], str(two))
