"""The attention kernel, run as plain JAX, against the blockwise one; and when it is chosen."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from diffusiongemma import DiffusionGemma, ModelConfig
from diffusiongemma.attention import encode_contexts
from diffusiongemma.backend import set_backend
from diffusiongemma.kernels import flash_attention, tiling
from diffusiongemma.ops import blockwise_attention, masks
from diffusiongemma.ops.blockwise_attention import Part
from tests.conftest import Compiled
from tests.diffusiongemma.kernels.gpu_programs import DEPRECATED, lowered, on_gpus

H = 4
plain = jax.jit(blockwise_attention.attend, static_argnums=3)
kernel = jax.jit(functools.partial(flash_attention.attend, interpret=True), static_argnums=3)


def arrays(rows, cached_rows, num_tokens, cached, head_dim, *, causal, kv_heads=2, dtype="float32"):
    """Arguments of attend: new tokens and a cache, whose rows are filled to different lengths."""
    rng = np.random.default_rng(num_tokens + cached)

    def normal(*shape):
        return jnp.asarray(rng.normal(size=shape), dtype)

    q = normal(rows, num_tokens, H, head_dim) * jnp.asarray(2 * head_dim**-0.5, dtype)
    length = jnp.asarray(np.linspace(cached, cached // 5, cached_rows).astype(np.int32))
    query = length[:, None] + np.arange(num_tokens if causal else 1, dtype=np.int32)
    new = [normal(rows, kv_heads, num_tokens, head_dim) for _ in range(2)]
    old = [normal(cached_rows, kv_heads, cached, head_dim) for _ in range(2)]
    parts = [Part(*new, query if causal else None)]
    return q, [*parts, Part(*old, masks.slot_positions(length, cached))], query


def check(args, window=masks.NO_WINDOW, tolerance=2e-6, reach=None):
    wanted = plain(*args, window, reach)
    found = kernel(*args, window, reach)
    assert found.dtype == wanted.dtype
    np.testing.assert_allclose(found.astype("float32"), wanted.astype("float32"), atol=tolerance)


@pytest.mark.parametrize("window", [masks.NO_WINDOW, 90])
@pytest.mark.parametrize("cached", [1, 64, 201])
def test_a_canvas_sees_itself_and_the_cache(cached, window):
    check(arrays(2, 2, 12, cached, 8, causal=False), window)


@pytest.mark.parametrize("window", [masks.NO_WINDOW, 5])
def test_a_chunk_of_a_prompt_sees_what_is_before(window):
    check(arrays(2, 2, 70, 201, 8, causal=True), window)


def test_queries_may_reach_further_than_themselves():
    q, parts, query = arrays(2, 2, 70, 201, 8, causal=True)
    in_span = np.broadcast_to(np.arange(70) % 20 < 12, query.shape)
    reach = masks.span_reach(query, jnp.array(in_span), None, 9)
    check((q, parts, query), 9, reach=reach)


def test_heads_may_share_one_kv_head():
    check(arrays(2, 2, 11, 70, 8, causal=False, kv_heads=1))


def test_canvases_may_share_a_context():
    check(arrays(4, 2, 12, 130, 8, causal=False))


def test_heads_of_512_have_tiles_of_their_own():
    check(arrays(1, 1, 40, 70, 512, causal=False), tolerance=1e-5)


def test_more_programs_than_tiles():
    """With few rows, each tile has a program of its own, and some programs see nothing."""
    q, parts, query = arrays(2, 2, 1, 640, 8, causal=True)
    check((q, parts, query), window=70)
    check((q, parts[:1], query))


@pytest.mark.parametrize("splits", [1, 2, 3])
def test_tiles_are_shared_out(splits, monkeypatch):
    """There are four tiles of the cache and a new one; the rows alone take four programs."""
    monkeypatch.setattr(tiling, "PROGRAMS", 4 * splits)
    found = jax.jit(
        functools.partial(flash_attention.attend, interpret=True, window=masks.NO_WINDOW)
    )
    args = arrays(2, 2, 13, 250, 8, causal=False)
    np.testing.assert_allclose(found(*args), plain(*args, masks.NO_WINDOW), atol=2e-6)


def test_bfloat16():
    args = arrays(2, 2, 12, 201, 16, causal=False, dtype="bfloat16")
    wide = jax.tree.map(lambda x: x.astype("float32") if x.dtype == "bfloat16" else x, args)
    found, wanted = kernel(*args, 90), plain(*wide, 90)
    assert found.dtype == jnp.bfloat16
    np.testing.assert_allclose(found.astype("float32"), wanted, atol=1e-2)


def test_gradients_are_those_without_it():
    q, parts, query = arrays(2, 2, 12, 70, 8, causal=True)

    def gradients(function):
        def total(q, kv):
            some = [Part(*kv, part.positions) for kv, part in zip(kv, parts, strict=True)]
            return jnp.sum(jnp.sin(function(q, some, query, 90)))

        return jax.jit(jax.grad(total, (0, 1)))(q, [part[:2] for part in parts])

    for found, wanted in zip(
        jax.tree.leaves(gradients(kernel)), jax.tree.leaves(gradients(plain)), strict=True
    ):
        assert jnp.abs(wanted).max() > 0.01
        np.testing.assert_allclose(found, wanted, atol=1e-6)


def test_a_model_by_the_kernels_is_the_model():
    config = ModelConfig.preset("tiny", layer_types=("sliding",))
    model = DiffusionGemma(config, rngs=nnx.Rngs(0))
    tokens = np.random.default_rng(0).integers(3, 64, (2, 22)).astype(np.int32)
    found = []
    for backend in ("loop", "interpret"):
        set_backend(model, backend)
        compiled = Compiled(model)
        first, cache = compiled.encode(tokens[:, :11], model.init_cache(2, 40))
        second, cache = compiled.encode(tokens[:, 11:], cache)
        found.append((first, second, compiled.denoise(tokens[:, :12], cache)))
    for wanted, got in zip(*found, strict=True):
        np.testing.assert_allclose(got, wanted, atol=2e-5)


def test_what_the_kernel_supports():
    def ask(head_dim, dtype, slots=4096):
        shape = jax.ShapeDtypeStruct
        q, kv = shape((1, 256, 16, head_dim), dtype), shape((1, 2, slots, head_dim), dtype)
        return flash_attention.supports(q, [Part(kv, kv, None)])

    assert ask(256, jnp.bfloat16) and ask(512, jnp.bfloat16, 262_144)
    assert not ask(256, jnp.float32)
    assert not ask(24, jnp.bfloat16)
    assert not ask(512, jnp.bfloat16, 2**21)


@pytest.mark.filterwarnings(DEPRECATED)
@pytest.mark.parametrize(("head_dim", "reaches"), [(256, False), (512, False), (256, True)])
def test_it_lowers_to_triton(head_dim, reaches):
    q, parts, query = arrays(1, 1, 256, 1023, head_dim, causal=reaches, dtype="bfloat16")
    attend = functools.partial(flash_attention.attend, window=1024)
    text = lowered(attend, q, parts, query, reach=query + 3 if reaches else None)
    assert "xla.gpu.triton" in text


@pytest.mark.filterwarnings(DEPRECATED)
@pytest.mark.parametrize(("devices", "chosen"), [(1, True), (2, False)])
def test_one_gpu_takes_the_kernel(devices, chosen):
    """XLA cannot split a kernel over devices by itself."""
    config = ModelConfig.preset("tiny", layer_types=("full",))
    model = nnx.eval_shape(lambda: DiffusionGemma(config, rngs=nnx.Rngs(0), dtype=jnp.bfloat16))
    graphdef, state = nnx.split(model)

    def attention(state, x):
        contexts, _ = encode_contexts(config, None, *x.shape[:2], None)
        return nnx.merge(graphdef, state).layers[0].attention(x, None, contexts["full"])[0]

    x = jax.ShapeDtypeStruct((2, 12, config.width), jnp.bfloat16)
    with on_gpus(devices):
        assert ("pallas_call" in str(jax.make_jaxpr(attention)(state, x))) == chosen
    assert "pallas_call" not in str(jax.make_jaxpr(attention)(state, x))
