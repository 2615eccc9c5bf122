"""Checkpoints of a run: what they hold, and what is refused."""

import collections

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from train import checkpointer
from train.checkpointer import Checkpointer
from train.optimizer import OptimizerConfig, make_optimizer
from train.step import TrainState, init_state


def state(step: int, size: int = 3, mean: bool = False) -> TrainState:
    params = {"kernel": jnp.arange(size, dtype=jnp.float32) + step}
    ema = {"kernel": params["kernel"] / 2} if mean else None
    return TrainState(jnp.int32(step), params, {"moment": params["kernel"] * 3}, ema)


@pytest.fixture
def checkpoints(tmp_path):
    opened = Checkpointer(tmp_path, 2, {"dtype": "float32"})
    yield opened
    opened.close()


@pytest.mark.parametrize("mean", [False, True])
def test_a_saved_state_comes_back(checkpoints, tmp_path, mean):
    assert checkpoints.latest() is None
    for step in (1, 2, 3):
        checkpoints.save(state(step, mean=mean), {"position": step})
    found, data = checkpoints.restore(3, state(0, mean=mean))
    assert data == {"position": 3} and checkpoints.latest() == 3
    for a, b in zip(*map(jax.tree.leaves, (found, state(3, mean=mean))), strict=True):
        np.testing.assert_array_equal(a, b)
    checkpoints.close()
    folders = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert folders == ["2", "3"]  # the latest two stay


def test_an_array_of_another_dtype_or_shape_is_refused(checkpoints):
    checkpoints.save(state(1), {})
    for kernel, shown in (
        (jnp.zeros(3, jnp.bfloat16), "bfloat16[3]"),
        (jnp.zeros(4), "float32[4]"),
    ):
        other = state(1)._replace(params={"kernel": kernel})
        with pytest.raises(ValueError, match=r": float32\[3\] where the run") as caught:
            checkpoints.restore(1, other)
        assert shown in str(caught.value)


def test_a_full_disk_is_noticed_before_anything_is_written(checkpoints, monkeypatch):
    usage = collections.namedtuple("Usage", "free")
    monkeypatch.setattr(checkpointer.shutil, "disk_usage", lambda _: usage(5 << 20))
    checkpoints.save(state(1), {})
    monkeypatch.setattr(checkpointer.shutil, "disk_usage", lambda _: usage(1 << 20))
    with pytest.raises(OSError, match=r"2 MiB needed, 1 free\); the one of step 1 is whole"):
        checkpoints.save(state(2), {})
    assert checkpoints.latest() == 1


@pytest.mark.parametrize("name", ["adam", "adafactor"])
def test_many_layers_and_an_optimizers_state_come_back(checkpoints, name):
    """More than ten layers, whose numbers orbax orders as text, and a real optimizer's state."""
    layers = nnx.List(nnx.Linear(2, 3, rngs=nnx.Rngs(i)) for i in range(12))
    optimizer = make_optimizer(OptimizerConfig(name, 1e-3, 1e-4, 1), 10)
    _, first, _ = init_state(layers, optimizer, ema=True)
    checkpoints.save(first._replace(step=jnp.int32(4)), {})
    found, _ = checkpoints.restore(4, first)
    for a, b in zip(*map(jax.tree.leaves, (found, first._replace(step=4))), strict=True):
        np.testing.assert_array_equal(a, b)
