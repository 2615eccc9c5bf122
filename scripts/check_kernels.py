"""The GPU's kernels on the GPU against plain float32, at the 26B's sizes; status 1 if one is off.

    python -m scripts.check_kernels

Experts, for floats, int8 and int4, rows in float32 and bfloat16, and several routings: the mixture
and the gradients of its rows and LoRA factors, beside every expert on every row with the weights
that the quantized ones stand for. Attention in bfloat16, of a canvas and of a later chunk of a
prompt, beside attend.attend in float32; the head, beside itself in float32. An error is
|found - wanted| / |wanted|. Rows must be grouped by expert just as without a kernel. On a CPU,
--interpret runs the kernels as plain JAX; give it small sizes.
"""

import functools
import sys

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

from diffusiongemma import ModelConfig, head
from diffusiongemma.attention import kv_shape
from diffusiongemma.kernels import expert_mixture, flash_attention
from diffusiongemma.kernels.group_rows import group_rows_by_kernel
from diffusiongemma.moe import mix
from diffusiongemma.ops import masks
from diffusiongemma.ops.blockwise_attention import Part, attend
from diffusiongemma.ops.expert_loop import Expert, Experts, group_rows
from diffusiongemma.ops.quantized import Quantized, dequantize, quantize
from sample import cli

RANK = 8
KINDS = ("float32", "bfloat16", "int8", "int4")
LARGEST = {"float32": 1e-5, "bfloat16": 1.5e-2}  # by the dtype of rows
LARGEST_ATTENTION, LARGEST_HEAD = 2e-3, 5e-3
HEAD = ("entropy", "soft")


def make_expert(kind: str, dtype, num: int, inputs: int, outputs: int) -> tuple[Expert, Expert]:
    """An expert of a kind, and one of the float32 weights that it stands for."""
    keys = jax.random.split(jax.random.key(inputs), 3)
    kernel = jax.random.normal(keys[0], (num, inputs, outputs), jnp.float32) * inputs**-0.5
    kernel = quantize(kernel, kind) if kind in ("int8", "int4") else kernel.astype(kind)
    # What an int4 weight is, is rounded to the dtype of rows.
    whole = dequantize(kernel, dtype) if isinstance(kernel, Quantized) else kernel
    factors = (
        jax.random.normal(keys[1], (num, inputs, RANK)) * inputs**-0.5,
        jax.random.normal(keys[2], (num, RANK, outputs)),
    )
    return Expert(kernel, *factors), Expert(whole.astype(jnp.float32), *factors)


def routes(num_tokens: int, num_experts: int, top_k: int) -> dict[str, np.ndarray]:
    """[N, top_k] int32 experts of each token."""
    rng = np.random.default_rng(0)

    def choose(pool: np.ndarray) -> np.ndarray:
        return np.stack([rng.choice(pool, top_k, replace=False) for _ in range(num_tokens)])

    return {
        "random": choose(np.arange(num_experts)),
        "most experts empty": choose(np.arange(0, num_experts, num_experts // (2 * top_k))),
        "the same for all": np.tile(np.arange(top_k), (num_tokens, 1)),
    }


@functools.partial(jax.jit, static_argnames="backend")
def results(x, weights, chosen, params, direction, backend):
    """The mixture, and the gradients of rows and of LoRA factors."""

    def total(x, factors):
        some = [Expert(p.kernel, *f) for p, f in zip(params, factors, strict=True)]
        out = mix(x, weights, chosen, Experts(*some), backend)
        return jnp.sum(out * direction), out

    factors = [(p.lora_a, p.lora_b) for p in params]
    with jax.default_matmul_precision("highest"):
        gradients, out = jax.grad(total, (0, 1), has_aux=True)(x, factors)
    return {"out": out, "dx": gradients[0], "dlora": gradients[1]}


def attention_cases(num_tokens: int, context: int) -> dict[str, tuple]:
    """Arguments of attend: sliding and full layers of the 26B, behind a cache of `context`."""
    config = ModelConfig.preset("26b_a4b")
    found = {}
    for kind in ("sliding", "full"):
        kv_heads, head_dim = kv_shape(config, kind)
        window = config.window if kind == "sliding" else masks.NO_WINDOW
        slots = min(context, window - 1)
        shapes = [(1, num_tokens, config.num_heads, head_dim)]
        shapes += [(1, kv_heads, n, head_dim) for n in (num_tokens, num_tokens, slots, slots)]
        keys = jax.random.split(jax.random.key(slots), len(shapes))
        q, k, v, *old = (
            jax.random.normal(key, shape, jnp.bfloat16)
            for key, shape in zip(keys, shapes, strict=True)
        )
        q = q * jnp.asarray(2 * head_dim**-0.5, q.dtype)
        length = jnp.array([context - context // 8])  # some slots are empty
        cached = Part(*old, masks.slot_positions(length, slots))
        tokens = masks.token_positions(length, None, num_tokens)
        found[f"canvas, {kind}"] = q, [Part(k, v, None), cached], tokens[:, :1], window
        found[f"chunk, {kind}"] = q, [Part(k, v, tokens), cached], tokens, window
    return found


@functools.partial(jax.jit, static_argnames=("window", "interpret"))
def attention_error(q, parts, query, window, interpret):
    found = flash_attention.attend(q, parts, query, window, interpret=interpret)
    wide = [Part(*(x.astype(jnp.float32) for x in part[:2]), part.positions) for part in parts]
    with jax.default_matmul_precision("highest"):
        wanted = attend(q.astype(jnp.float32), wide, query, window)
    return jnp.linalg.norm(found.astype(jnp.float32) - wanted) / jnp.linalg.norm(wanted)


def head_errors(kind: str, sizes: tuple[int, int, int], backend: str) -> dict[str, float]:
    """Of a head whose embedding is of a kind; sizes: tokens, width, vocabulary."""
    num_tokens, width, vocab_size = sizes
    x, table = (
        jax.random.normal(jax.random.key(n), (n, width), jnp.bfloat16)
        for n in (num_tokens, vocab_size)
    )
    x, wide = x[None] * jnp.asarray(3 * width**-0.5, x.dtype), table.astype(jnp.float32)
    if kind == "int8":
        table = quantize(table, kind, by_row=True)
        wide = dequantize(table, jnp.float32)
    predict = jax.jit(head.predict, static_argnames="backend")
    by_kernels = predict(x, table, 30.0, 0.7, backend=backend)
    with jax.default_matmul_precision("highest"):
        wanted = predict(x.astype(jnp.float32), wide, 30.0, 0.7)
    return {name: error(getattr(by_kernels, name), getattr(wanted, name)) for name in HEAD}


def grouped_alike(chosen: jax.Array, num_experts: int, interpret: bool) -> bool:
    sizes = num_experts, expert_mixture.block_size(chosen.size, num_experts)
    ways = functools.partial(group_rows_by_kernel, interpret=interpret), group_rows
    some, other = (jax.jit(way, static_argnums=(1, 2))(chosen.reshape(-1), *sizes) for way in ways)
    return all(map(jnp.array_equal, some, other))


def error(found, wanted) -> float:
    def flat(tree) -> jax.Array:
        return jnp.concatenate([x.astype(jnp.float32).reshape(-1) for x in jax.tree.leaves(tree)])

    return float(jnp.linalg.norm(flat(found) - flat(wanted)) / jnp.linalg.norm(flat(wanted)))


def check(values: flags.FlagValues) -> int:
    backend = "interpret" if values.interpret else "pallas"
    print(f"{cli.device_line()}; {backend}\n{'weights':10}{'rows':10}{'routing':22}errors")
    faults = 0
    size, top_k, num = (values.tokens, values.width), values.top_k, values.num_experts
    direction = jax.random.normal(jax.random.key(1), size)
    weights = jax.random.uniform(jax.random.key(2), (values.tokens, top_k), minval=0.1)
    for kind in KINDS:
        for dtype, largest in LARGEST.items():
            shapes = (values.width, 2 * values.hidden), (values.hidden, values.width)
            experts = [make_expert(kind, dtype, num, *shape) for shape in shapes]
            params, plain = (Experts(*some) for some in zip(*experts, strict=True))
            x = jax.random.normal(jax.random.key(3), size, dtype)
            for name, chosen in routes(values.tokens, num, top_k).items():
                chosen = jnp.asarray(chosen, jnp.int32)
                found = results(x, weights, chosen, params, direction, backend)
                x32 = x.astype(jnp.float32)
                wanted = results(x32, weights, chosen, plain, direction, "reference")
                errors = {part: error(found[part], wanted[part]) for part in found}
                bad = not all(e <= largest for e in errors.values())
                faults += bad
                shown = "  ".join(f"{part} {e:.1e}" for part, e in errors.items())
                print(f"{kind:10}{dtype:10}{name:22}{shown}{'  WRONG' * bad}", flush=True)
    for name, chosen in routes(values.tokens, num, top_k).items():
        alike = grouped_alike(jnp.asarray(chosen, jnp.int32), num, values.interpret)
        faults += not alike
        print(f"{'grouping':20}{name:22}{'the same' if alike else 'WRONG'}", flush=True)
    for name, (*args, window) in attention_cases(values.tokens, values.context).items():
        found = float(attention_error(*args, window, values.interpret))
        bad = not found <= LARGEST_ATTENTION
        faults += bad
        print(f"{'attention':20}{name:22}{found:.1e}{'  WRONG' * bad}", flush=True)
    sizes = values.tokens, values.width, values.vocab_size
    for kind in ("bfloat16", "int8"):
        for name, found in head_errors(kind, sizes, backend).items():
            bad = not found <= LARGEST_HEAD
            faults += bad
            print(f"{f'head, {kind}':20}{name:22}{found:.1e}{'  WRONG' * bad}", flush=True)
    print(f"{faults} faults")
    return int(faults > 0)


def main(argv: list[str]) -> int:
    values = flags.FlagValues()
    for name, default in (
        ("width", 2816),
        ("hidden", 704),
        ("num_experts", 64),
        ("top_k", 8),
        ("tokens", 256),
        ("context", 4096),
        ("vocab_size", 262_144),
    ):
        help = "Default: the 26B's, with half the experts."
        flags.DEFINE_integer(name, default, help, lower_bound=1, flag_values=values)
    flags.DEFINE_boolean("interpret", False, "No GPU needed.", flag_values=values)
    return cli.run(values, lambda: check(values), argv, __doc__)


if __name__ == "__main__":
    sys.exit(main(sys.argv))
