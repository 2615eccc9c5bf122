"""Learning-rate schedules, weight decay and the length of a step."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from train.optimizer import OptimizerConfig, learning_rate, make_optimizer


def test_schedules():
    config = OptimizerConfig("adam", peak_lr=1.0, end_lr=0.1, warmup=10, schedule="hold")
    rate = learning_rate(config, 100)
    assert [round(float(rate(s)), 6) for s in (0, 5, 10, 70, 85, 100)] == [0, 0.5, 1, 1, 0.55, 0.1]
    config = OptimizerConfig("adam", peak_lr=1.0, end_lr=0.1, warmup=10)
    rate = learning_rate(config, 110)
    assert [round(float(rate(s)), 6) for s in (0, 10, 60, 110)] == [0, 1, 0.55, 0.1]


def test_weight_decay_spares_vectors_and_names_are_checked():
    params = {"kernel": jnp.ones((2, 2)), "scale": jnp.ones(2)}
    zeros = {"kernel": jnp.zeros((2, 2)), "scale": jnp.zeros(2)}
    for name in ("adam", "adafactor", "muon"):
        config = OptimizerConfig(name, 0.5, 0.5, 0, schedule="hold", weight_decay=0.1)
        optimizer = make_optimizer(config, 10)
        update = jax.jit(optimizer.update)
        updates, _ = update(zeros, optimizer.init(params), params)
        assert float(updates["scale"].max()) == 0
        np.testing.assert_allclose(updates["kernel"], -0.5 * 0.1, rtol=1e-6)
        # A step is as long as the learning rate, however small the weights.
        grads = {"kernel": 1e-3 * jnp.ones((2, 2)), "scale": 1e-3 * jnp.ones(2)}
        updates, _ = update(grads, optimizer.init(zeros), zeros)
        np.testing.assert_allclose(updates["kernel"], -0.5, rtol=1e-3)
    with pytest.raises(ValueError, match="'sgd'"):
        OptimizerConfig("sgd", 1, 1, 1)
    with pytest.raises(ValueError, match="'flat'"):
        OptimizerConfig("adam", 1, 1, 1, schedule="flat")


def test_the_text_model_may_learn_more_slowly_than_the_tower():
    params = {"embedder": {"kernel": jnp.ones((2, 2))}, "vision": {"kernel": jnp.ones((2, 2))}}
    for rate in (0.0, 0.25):
        config = OptimizerConfig("adam", 0.5, 0.5, 0, schedule="hold", text_rate=rate)
        optimizer = make_optimizer(config, 10)
        state = optimizer.init(params)
        updates, _ = jax.jit(optimizer.update)(params, state, params)
        moments = [x for x in jax.tree.leaves(state) if x.ndim]
        assert len(moments) == (4 if rate else 2)  # what is not trained needs none
        text, tower = (updates[part]["kernel"] for part in ("embedder", "vision"))
        assert float(tower.max()) < -0.4
        np.testing.assert_allclose(text, rate * tower, rtol=1e-6)
    with pytest.raises(ValueError, match="text_rate"):
        OptimizerConfig("adam", 1, 1, 1, text_rate=-1)
    with pytest.raises(ValueError, match="muon_rms"):
        OptimizerConfig("muon", 1, 1, 1, muon_rms=0)


def test_muon_orthogonalizes_the_momentum_of_layers_alone():
    rng = np.random.default_rng(0)
    shapes = {"table": (3, 3), "layers": {0: {"kernel": (16, 32), "experts": (4, 32, 16)}}}
    shapes["layers"][0]["scale"] = (16,)
    grads = jax.tree.map(
        lambda shape: jnp.asarray(rng.standard_normal(shape), jnp.float32),
        shapes,
        is_leaf=lambda x: isinstance(x, tuple),
    )
    optimizer = make_optimizer(
        OptimizerConfig("muon", 0.5, 0.5, 0, muon_rms=0.3, weight_decay=0.0), 10
    )
    updates, _ = jax.jit(optimizer.update)(grads, optimizer.init(grads), grads)
    layer = updates["layers"][0]
    for matrix in (layer["kernel"], *layer["experts"]):
        lengths = np.linalg.svd(matrix, compute_uv=False)
        # All singular values of an orthogonal matrix are 1; five iterations come near.
        np.testing.assert_allclose(lengths, 0.5 * 0.3 * 32**0.5, rtol=0.5)
        assert np.sqrt(np.mean(np.square(matrix))) == pytest.approx(0.5 * 0.3, rel=0.2)
    gradient = grads["layers"][0]["kernel"]
    assert np.linalg.cond(gradient) > 2 * np.linalg.cond(layer["kernel"])
    for one in (updates["table"], layer["scale"]):
        np.testing.assert_allclose(np.abs(one), 0.5, rtol=1e-3)  # Adam's first step
