"""Fixtures that the tests of checkpoints share."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from diffusiongemma.formats.tensor_tables import GOOGLE, HF, file_tensors
from tests.diffusiongemma.formats.folders import (
    CONFIGS,
    GOLDEN,
    make_adapter,
    make_folder,
    read_all,
)


@pytest.fixture(scope="session")
def two(tmp_path_factory) -> Path:
    """A folder in the released layout of the shape "two"; tests leave it as it is."""
    return make_folder(tmp_path_factory.mktemp("formats") / "two", "two")


@pytest.fixture(scope="session")
def google_tree(two) -> dict[str, np.ndarray]:
    """The tensors of "two" by Google's names."""
    config, released = CONFIGS["two"], read_all(two)
    params = {}
    for name, tensor in file_tensors(config, HF).items():
        params |= tensor.to_params(released[name])
    return {k: t.from_params(params) for k, t in file_tensors(config, GOOGLE).items()}


@pytest.fixture
def adapter(two, tmp_path) -> Path:
    """An adapter for "two", to be spoilt."""
    return make_adapter(tmp_path / "adapter", CONFIGS["two"], str(two))


@pytest.fixture
def folder(tmp_path) -> Path:
    """A copy of the golden checkpoint hf_six, to be spoilt."""
    return Path(shutil.copytree(GOLDEN / "hf_six", tmp_path / "model"))
