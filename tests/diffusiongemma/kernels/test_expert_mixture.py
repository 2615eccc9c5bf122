"""The ways to compute a mixture of experts against the plain one: every expert on every row."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from diffusiongemma import ModelConfig
from diffusiongemma.backend import set_backend
from diffusiongemma.lora import add_lora
from diffusiongemma.moe import MoE, mix
from diffusiongemma.ops.expert_loop import Expert, Experts
from tests.diffusiongemma.kernels.gpu_programs import DEPRECATED, lowered
from tests.diffusiongemma.kernels.stacks import E, make

N, TOP_K, D, F, RANK = 24, 2, 64, 64, 3
ROUTES = {
    "random": np.random.default_rng(0).permuted(np.tile(np.arange(E), (N, 1)), axis=1)[:, :TOP_K],
    "one pair of experts": np.tile([3, 1], (N, 1)),
    "empty experts": np.random.default_rng(1).permuted(np.tile([0, 4], (N, 1)), axis=1),
}
WAYS = ("loop", "interpret")


def experts(kind: str, lora: bool) -> tuple[Experts, Experts]:
    """Random experts of a kind (stacks.KINDS), and the same ones with floats in their place."""
    found = []
    for key, (inputs, outputs) in enumerate(((D, 2 * F), (F, D))):
        kernel, full = make(kind, inputs, outputs)
        factors = ()
        if lora:
            a, b = jax.random.split(jax.random.key(key))
            factors = (
                0.2 * jax.random.normal(a, (E, inputs, RANK)),
                0.2 * jax.random.normal(b, (E, RANK, outputs)),
            )
        dtype = "bfloat16" if kind == "bfloat16" else "float32"
        found.append((Expert(kernel, *factors), Expert(jnp.asarray(full, dtype), *factors)))
    return tuple(Experts(*pair) for pair in zip(*found, strict=True))


def rows(dtype="float32") -> tuple[jax.Array, jax.Array, jax.Array]:
    x, w, out = jax.random.split(jax.random.key(5), 3)
    weights = jax.random.uniform(w, (N, TOP_K), minval=0.1)
    return jax.random.normal(x, (N, D), dtype), weights, jax.random.normal(out, (N, D))


@functools.partial(jax.jit, static_argnames=("backend", "frozen"))
def with_gradients(x, weights, chosen, params, direction, backend, frozen):
    """The mixture, and the gradients of x, weights and the parameters that are not frozen."""
    kernels = tuple(p.kernel for p in params)

    def total(x, weights, trained):
        some = [
            p._replace(kernel=k)
            for p, k in zip(
                trained, kernels if frozen else [p.kernel for p in trained], strict=True
            )
        ]
        out = mix(x, weights, chosen, Experts(*some), backend)
        return jnp.sum(out * direction), out

    trained = Experts(*(p._replace(kernel=None) for p in params)) if frozen else params
    grads, out = jax.grad(total, (0, 1, 2), has_aux=True)(x, weights, trained)
    return out, grads


def check(found, wanted, tolerance: float):
    for got, want in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        got, want = np.asarray(got, np.float32), np.asarray(want, np.float32)
        largest = np.abs(want).max()
        assert largest > 0.1
        np.testing.assert_allclose(got, want, atol=tolerance * largest)


@pytest.mark.parametrize("lora", [False, True])
@pytest.mark.parametrize("backend", WAYS)
def test_all_gradients_in_float32(backend, lora):
    x, weights, direction = rows()
    params, _ = experts("float32", lora)
    for chosen in ROUTES.values():
        args = x, weights, jnp.asarray(chosen), params, direction
        found = with_gradients(*args, backend, frozen=False)
        check(found, with_gradients(*args, "reference", frozen=False), 1e-5)


@pytest.mark.parametrize("backend", WAYS)
def test_bfloat16(backend):
    x, weights, direction = rows("bfloat16")
    params, _ = experts("bfloat16", lora=True)
    args = x, weights, jnp.asarray(ROUTES["random"]), params, direction
    found = with_gradients(*args, backend, frozen=False)
    check(found, with_gradients(*args, "reference", frozen=False), 3e-2)


@pytest.mark.parametrize("lora", [False, True])
@pytest.mark.parametrize("kind", ["int8", "int4"])
@pytest.mark.parametrize("backend", WAYS)
def test_quantized(backend, kind, lora):
    """Quantized experts act as the floats that they stand for. Frozen kernels get no gradient."""
    x, weights, direction = rows()
    params, floats = experts(kind, lora)
    for chosen in ROUTES.values():
        args = x, weights, jnp.asarray(chosen)
        found = with_gradients(*args, params, direction, backend, frozen=True)
        wanted = with_gradients(*args, floats, direction, "reference", frozen=True)
        check(found, wanted, 1e-5)


@pytest.mark.filterwarnings(DEPRECATED)
def test_a_lora_step_lowers_to_triton():
    moe = MoE(ModelConfig.preset("tiny"), rngs=nnx.Rngs(0), dtype=jnp.bfloat16)
    add_lora(moe, 2, 6.0, rngs=nnx.Rngs(1))
    set_backend(moe, "pallas")
    graphdef, factors, frozen = nnx.split(moe, nnx.LoRAParam, ...)

    def total(factors, x, frozen):
        return jnp.sum(nnx.merge(graphdef, factors, frozen)(x, x))

    x = jnp.ones((1, 40, 32), jnp.bfloat16)
    text = lowered(jax.value_and_grad(total, (0, 1)), factors, x, frozen)
    # Two kernels group rows. Both maps have one forward and one backward.
    assert text.count("@__gpu$xla.gpu.triton") == 6
