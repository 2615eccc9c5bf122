"""Shared by the tests: quick compilation, 8 virtual devices, the model's surface compiled."""

import os
from pathlib import Path

# Most of the suite's time is compilation, and none of its arrays is large. Set before JAX starts,
# and inherited by the processes that tests start.
os.environ["XLA_FLAGS"] = (
    "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true "
    # XLA's older code generator for the CPU compiles a model in a third of the time of the newer.
    "--xla_backend_extra_options=xla_cpu_disable_new_fusion_emitters "
    "--xla_force_host_platform_device_count=8"
)

# Tests keep nothing on disk, and start from nothing.
os.environ["JAX_COMPILATION_CACHE_DIR"] = ""

import jax
import pytest
from flax import nnx

TESTS = Path(__file__).parent
# Folders and files of tests, from those that take longest.
SLOWEST = ("train", "test_readme.py", "scripts", "sample", "diffusiongemma")


def pytest_addoption(parser: pytest.Parser) -> None:
    help = "try all random cases of kept tokens and constraints, 1,000 and more, not a part of them"
    parser.addoption("--many", action="store_true", help=help)


@pytest.fixture(scope="session")
def many(request: pytest.FixtureRequest) -> bool:
    """Whether to try all random cases. CI tries a part of them."""
    return request.config.getoption("--many")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts slow files first. A file runs on one core, and a slow one at the end would run alone."""

    def place(item: pytest.Item) -> int:
        room = item.path.relative_to(TESTS).parts[0]
        return SLOWEST.index(room) if room in SLOWEST else len(SLOWEST)

    items.sort(key=place)


class Compiled:
    """encode and denoise of a model as compiled functions.

    Layer by layer, every operation of every shape is compiled on its own, which takes minutes.
    """

    def __init__(self, model):
        graphdef, self.state = nnx.split(model)
        self.config, self.init_cache = model.config, model.init_cache

        def encode(state, tokens, cache=None, mask=None, logits="all"):
            return nnx.merge(graphdef, state).encode(tokens, cache, mask, logits=logits)

        def denoise(state, canvas, cache, soft=None):
            return nnx.merge(graphdef, state).denoise(canvas, cache, soft)

        self._encode = jax.jit(encode, static_argnames="logits")
        self._denoise = jax.jit(denoise)

    def encode(self, tokens, cache=None, mask=None, logits="all", state=None):
        return self._encode(state or self.state, tokens, cache, mask, logits=logits)

    def denoise(self, canvas, cache, soft=None, state=None):
        return self._denoise(state or self.state, canvas, cache, soft)
