"""The expert kernels, run as plain JAX, against products with each row's own matrix."""

import functools

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from diffusiongemma.kernels.expert_matmul import matmul, matmul_transposed, supports
from diffusiongemma.ops.expert_loop import Blocks, group_rows
from diffusiongemma.ops.quantized import GROUP, Quantized
from tests.diffusiongemma.kernels.gpu_programs import DEPRECATED, lowered
from tests.diffusiongemma.kernels.stacks import KINDS, E, make

ROWS = 48
IDS = {
    "random": np.random.default_rng(0).integers(0, E, ROWS),  # no expert's rows fill a block
    "one expert": np.full(ROWS, 3),
    "empty experts": np.random.default_rng(1).choice([0, 4], ROWS),
    "full blocks": np.repeat([1, 4], [16, 32]),
}


def group(ids: np.ndarray, block: int = 16) -> tuple[Blocks, np.ndarray]:
    """The blocks of rows that go to experts, and the place of each row."""
    blocks = group_rows(jnp.asarray(ids, jnp.int32), E, block)
    return blocks, np.asarray(blocks.places[:, 0])


def check(found: jax.Array, wanted: np.ndarray, places: np.ndarray) -> None:
    """found [blocks, block, F] has wanted [rows, F] in the rows' places and zeros in the others."""
    tolerance = 1e-5 if found.dtype == jnp.float32 else 1e-2
    found = np.asarray(found, np.float32).reshape(-1, wanted.shape[1])
    np.testing.assert_allclose(found[places], wanted, atol=tolerance * np.abs(wanted).max())
    assert not np.delete(found, places, axis=0).any()


run = jax.jit(functools.partial(matmul, interpret=True), static_argnames="geglu")
run_transposed = jax.jit(functools.partial(matmul_transposed, interpret=True))


def check_matmul(kind, ids, inputs, outputs, dtype="float32", block=16):
    weight, full = make(kind, inputs, outputs)
    blocks, places = group(ids, block)
    x = np.random.default_rng(2).normal(size=(len(ids), inputs)).astype(dtype)
    wanted = np.einsum("ri,rio->ro", x.astype(np.float32), full[ids])
    check(run(x, blocks, weight), wanted, places)


def check_transposed(kind, ids, inputs, outputs, dtype="float32", block=16):
    weight, full = make(kind, inputs, outputs)
    blocks, places = group(ids, block)
    dy = np.random.default_rng(3).normal(size=(len(ids), outputs)).astype(dtype)
    # The content of empty places must not matter.
    in_places = np.full((blocks.row.size, outputs), np.nan, dtype)
    in_places[places] = dy
    own = jnp.arange(blocks.row.size).reshape(blocks.row.shape)
    blocks = blocks._replace(row=jnp.where(blocks.row < len(ids), own, own.size))
    wanted = np.einsum("ro,rio->ri", dy.astype(np.float32), full[ids])
    check(run_transposed(in_places, blocks, weight), wanted, places)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("ids", IDS.values(), ids=IDS)
def test_rows_meet_their_expert(ids, kind):
    check_matmul(kind, ids, 128, 192)
    check_transposed(kind, ids, 128, 192)


@pytest.mark.parametrize("kind", KINDS)
def test_bfloat16_rows(kind):
    check_matmul(kind, IDS["random"], 128, 192, ml_dtypes.bfloat16)
    check_transposed(kind, IDS["random"], 128, 192, ml_dtypes.bfloat16)


@pytest.mark.parametrize(
    ("kind", "inputs", "outputs", "block", "rows"),
    [
        ("float32", 16, 32, 16, 1),
        ("bfloat16", 176, 416, 32, 70),
        ("int8", 48, 320, 32, 70),
        ("int4", 192, 320, 32, 70),
    ],
)
def test_shapes(kind, inputs, outputs, block, rows):
    ids = np.random.default_rng(rows).integers(0, E, rows)
    check_matmul(kind, ids, inputs, outputs, block=block)
    check_transposed(kind, ids, inputs, outputs, block=block)


@pytest.mark.parametrize("kind", KINDS)
def test_geglu(kind):
    weight, full = make(kind, 64, 192)
    blocks, places = group(IDS["random"])
    x = np.random.default_rng(2).normal(size=(ROWS, 64)).astype(np.float32)
    gate, up = np.split(np.einsum("ri,rio->ro", x, full[IDS["random"]]), 2, axis=-1)
    wanted = np.asarray(jax.nn.gelu(gate, approximate=True)) * up
    check(run(x, blocks, weight, geglu=True), wanted, places)


def test_what_the_kernels_support():
    """The kernels take the 26B's experts in every kind, and only whole numbers of least tiles."""

    def supported(kind: str, experts: int, inputs: int, outputs: int) -> bool:
        shape = jax.ShapeDtypeStruct
        if kind == "int8":
            scales = shape((experts, 1, outputs), jnp.float32)
            return supports(Quantized(shape((experts, inputs, outputs), jnp.int8), scales))
        if kind == "int4":
            scales = shape((experts, max(inputs // GROUP, 1), outputs), jnp.bfloat16)
            return supports(Quantized(shape((experts, inputs // 2, outputs), jnp.uint8), scales))
        return supports(shape((experts, inputs, outputs), kind))

    for inputs, outputs in ((2816, 2 * 704), (704, 2816)):
        assert supported("bfloat16", 128, inputs, outputs)
        assert supported("int8", 128, inputs, outputs)
        assert supported("int4", 128, inputs, outputs)
    assert not supported("float32", 8, 24, 64)
    assert not supported("float32", 8, 64, 48)
    assert not supported("int8", 8, 64, 96)
    assert not supported("int4", 8, 32, 64)  # half a group


@pytest.mark.filterwarnings(DEPRECATED)
@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
@pytest.mark.parametrize("kind", KINDS)
def test_they_lower_to_triton(kind, dtype):
    """Lowering for CUDA works on any machine; compiling the result needs XLA's CUDA plugin."""
    weight, _ = make(kind, 128, 192)
    blocks, _ = group(IDS["random"])
    x = jnp.zeros((ROWS, 128), dtype)
    dy = jnp.zeros((blocks.row.size, 192), dtype)
    for function, rows in (
        (matmul, x),
        (functools.partial(matmul, geglu=True), x),
        (matmul_transposed, dy),
    ):
        assert "xla.gpu.triton" in lowered(function, rows, blocks, weight)
