"""Checks the GPU kernels against plain float32 JAX at the sizes of the 26B model.

    python -m scripts.check_kernels

Run it on a GPU. It prints a line for each check, and the status is 1 if one fails.

Experts: the mixture, and the gradients of its rows and of its LoRA factors, are compared with every
expert on every row. Weights are float32, bfloat16, int8 and int4; rows are float32 and bfloat16;
there are several routings. Quantized weights are compared with the float weights they stand for.
Rows must be grouped by expert exactly as without a kernel. Attention is compared with
ops/blockwise_attention.py, for a canvas and for a later chunk of a prompt, in bfloat16. The head is
compared with itself in float32. An error is |found - wanted| / |wanted|.

On a CPU, --interpret runs the kernels as plain JAX. Give it small sizes.
"""

import functools
import sys
from collections.abc import Iterator
from typing import Any, NamedTuple

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

LORA_RANK = 8
WEIGHTS = ("float32", "bfloat16", "int8", "int4")
EXPERT_LIMITS = {"float32": 1e-5, "bfloat16": 1.5e-2}  # dtype of rows -> largest error allowed
ATTENTION_LIMIT, HEAD_LIMIT = 2e-3, 5e-3
HEAD_WEIGHTS, HEAD_OUTPUTS = ("bfloat16", "int8"), ("entropy", "soft")
DEFAULT_SIZES = {
    "width": (2816, "Width of the model."),
    "hidden": (704, "Hidden width of an expert."),
    "num_experts": (64, "Number of experts. The 26B has 128."),
    "top_k": (8, "Number of experts for each token."),
    "tokens": (256, "Number of tokens."),
    "context": (4096, "Number of tokens in the KV cache."),
    "vocab_size": (262_144, "Size of the vocabulary."),
}


class Sizes(NamedTuple):
    """The sizes of the flags in DEFAULT_SIZES."""

    width: int
    hidden: int
    num_experts: int
    top_k: int
    tokens: int
    context: int
    vocab_size: int


class Check(NamedTuple):
    """One line of the result.

    Attributes:
      subject: which kernel, with its dtypes.
      case: which inputs.
      found: the errors as text.
      passed: whether they are within the limits.
    """

    subject: str
    case: str
    found: str
    passed: bool


def make_expert(
    weights: str, dtype: str, num_experts: int, inputs: int, outputs: int
) -> tuple[Expert, Expert]:
    """Random experts with one of WEIGHTS, and experts with the float32 weights they stand for.

    Args:
      weights: dtype or precision of the kernel [num_experts, inputs, outputs].
      dtype: dtype of the rows. What an int4 weight stands for is rounded to it.
    """
    keys = jax.random.split(jax.random.key(inputs), 3)
    kernel = jax.random.normal(keys[0], (num_experts, inputs, outputs), jnp.float32)
    kernel = kernel * inputs**-0.5
    kernel = quantize(kernel, weights) if weights in ("int8", "int4") else kernel.astype(weights)
    whole = dequantize(kernel, dtype) if isinstance(kernel, Quantized) else kernel
    factors = (
        jax.random.normal(keys[1], (num_experts, inputs, LORA_RANK)) * inputs**-0.5,
        jax.random.normal(keys[2], (num_experts, LORA_RANK, outputs)),
    )
    return Expert(kernel, *factors), Expert(whole.astype(jnp.float32), *factors)


def routes(num_tokens: int, num_experts: int, top_k: int) -> dict[str, np.ndarray]:
    """Routings by name: the experts of each token, [N, top_k] int."""
    rng = np.random.default_rng(0)

    def choose(pool: np.ndarray) -> np.ndarray:
        return np.stack([rng.choice(pool, top_k, replace=False) for _ in range(num_tokens)])

    return {
        "random": choose(np.arange(num_experts)),
        "most experts empty": choose(np.arange(0, num_experts, num_experts // (2 * top_k))),
        "the same for all": np.tile(np.arange(top_k), (num_tokens, 1)),
    }


@functools.partial(jax.jit, static_argnames="backend")
def results(
    x: jax.Array,
    weights: jax.Array,
    chosen: jax.Array,
    params: Experts,
    direction: jax.Array,
    backend: str,
) -> dict[str, Any]:
    """The mixture of rows x [N, D], and its gradients along a direction [N, D].

    Args:
      weights: [N, top_k] float32, weights of the chosen experts.
      chosen: [N, top_k] int32.
      params: the experts' two linear maps.
      backend: one of diffusiongemma.backend.

    Returns:
      "out" [N, D]; "dx" [N, D]; "dlora", the gradients of the LoRA factors.
    """

    def total(x: jax.Array, factors: list[tuple]) -> tuple[jax.Array, jax.Array]:
        experts = [Expert(p.kernel, *f) for p, f in zip(params, factors, strict=True)]
        out = mix(x, weights, chosen, Experts(*experts), backend)
        return jnp.sum(out * direction), out

    factors = [(p.lora_a, p.lora_b) for p in params]
    with jax.default_matmul_precision("highest"):
        gradients, out = jax.grad(total, (0, 1), has_aux=True)(x, factors)
    return {"out": out, "dx": gradients[0], "dlora": gradients[1]}


def attention_cases(num_tokens: int, context: int) -> dict[str, tuple]:
    """Arguments of attend in the sliding and the full layers of the 26B.

    Args:
      num_tokens: queries, which are a canvas or a chunk of a prompt.
      context: tokens in the KV cache before them.
    """
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
def attention_error(
    q: jax.Array, parts: list[Part], query: jax.Array, window: int, interpret: bool
) -> jax.Array:
    """The error of the attention kernel on the arguments of attend; a float32 scalar."""
    found = flash_attention.attend(q, parts, query, window, interpret=interpret)
    wide = [Part(*(x.astype(jnp.float32) for x in part[:2]), part.positions) for part in parts]
    with jax.default_matmul_precision("highest"):
        wanted = attend(q.astype(jnp.float32), wide, query, window)
    return jnp.linalg.norm(found.astype(jnp.float32) - wanted) / jnp.linalg.norm(wanted)


def head_errors(weights: str, sizes: Sizes, backend: str) -> dict[str, float]:
    """The error of each of HEAD_OUTPUTS, with an embedding table in one of HEAD_WEIGHTS."""
    x, table = (
        jax.random.normal(jax.random.key(n), (n, sizes.width), jnp.bfloat16)
        for n in (sizes.tokens, sizes.vocab_size)
    )
    x, wide = x[None] * jnp.asarray(3 * sizes.width**-0.5, x.dtype), table.astype(jnp.float32)
    if weights == "int8":
        table = quantize(table, weights, by_row=True)
        wide = dequantize(table, jnp.float32)
    predict = jax.jit(head.predict, static_argnames="backend")
    by_kernels = predict(x, table, 30.0, 0.7, backend=backend)
    with jax.default_matmul_precision("highest"):
        wanted = predict(x.astype(jnp.float32), wide, 30.0, 0.7)
    return {name: error(getattr(by_kernels, name), getattr(wanted, name)) for name in HEAD_OUTPUTS}


def grouped_alike(chosen: jax.Array, num_experts: int, interpret: bool) -> bool:
    """Whether the kernel groups rows by their experts chosen [N, top_k] as plain JAX does."""
    sizes = num_experts, expert_mixture.block_size(chosen.size, num_experts)
    ways = functools.partial(group_rows_by_kernel, interpret=interpret), group_rows
    some, other = (jax.jit(way, static_argnums=(1, 2))(chosen.reshape(-1), *sizes) for way in ways)
    return all(map(jnp.array_equal, some, other))


def error(found: Any, wanted: Any) -> float:
    """|found - wanted| / |wanted| over all elements of two trees of arrays."""

    def flat(tree: Any) -> jax.Array:
        return jnp.concatenate([x.astype(jnp.float32).reshape(-1) for x in jax.tree.leaves(tree)])

    return float(jnp.linalg.norm(flat(found) - flat(wanted)) / jnp.linalg.norm(flat(wanted)))


def expert_checks(sizes: Sizes, backend: str) -> Iterator[Check]:
    """Checks the mixture of experts."""
    rows = sizes.tokens, sizes.width
    direction = jax.random.normal(jax.random.key(1), rows)
    mixing = jax.random.uniform(jax.random.key(2), (sizes.tokens, sizes.top_k), minval=0.1)
    shapes = (sizes.width, 2 * sizes.hidden), (sizes.hidden, sizes.width)
    for weights in WEIGHTS:
        for dtype, limit in EXPERT_LIMITS.items():
            pairs = [make_expert(weights, dtype, sizes.num_experts, *shape) for shape in shapes]
            params, plain = (Experts(*some) for some in zip(*pairs, strict=True))
            x = jax.random.normal(jax.random.key(3), rows, dtype)
            for name, chosen in routes(sizes.tokens, sizes.num_experts, sizes.top_k).items():
                chosen = jnp.asarray(chosen, jnp.int32)
                found = results(x, mixing, chosen, params, direction, backend)
                x32 = x.astype(jnp.float32)
                wanted = results(x32, mixing, chosen, plain, direction, "reference")
                errors = {part: error(found[part], wanted[part]) for part in found}
                shown = "  ".join(f"{part} {e:.1e}" for part, e in errors.items())
                passed = all(e <= limit for e in errors.values())
                yield Check(f"experts, {weights}, rows {dtype}", name, shown, passed)


def other_checks(sizes: Sizes, interpret: bool, backend: str) -> Iterator[Check]:
    """Checks the grouping of rows, attention and the head."""
    for name, chosen in routes(sizes.tokens, sizes.num_experts, sizes.top_k).items():
        alike = grouped_alike(jnp.asarray(chosen, jnp.int32), sizes.num_experts, interpret)
        yield Check("grouping", name, "the same" if alike else "another order", alike)
    for name, (*args, window) in attention_cases(sizes.tokens, sizes.context).items():
        found = float(attention_error(*args, window, interpret))
        yield Check("attention", name, f"{found:.1e}", found <= ATTENTION_LIMIT)
    for weights in HEAD_WEIGHTS:
        for name, found in head_errors(weights, sizes, backend).items():
            yield Check(f"head, {weights}", name, f"{found:.1e}", found <= HEAD_LIMIT)


def check(values: flags.FlagValues) -> int:
    """Prints a line for each check; returns 1 if one failed, else 0."""
    backend = "interpret" if values.interpret else "pallas"
    sizes = Sizes(*(values[name].value for name in Sizes._fields))
    for name in ("width", "vocab_size"):
        if (size := getattr(sizes, name)) % 128:
            raise ValueError(f"--{name}={size}: the head's kernels need a multiple of 128")
    print(f"{cli.device_line()}; {backend}\n{'kernel':34}{'inputs':22}errors")
    failed = 0
    # The experts' 24 checks take the most time, so they come last.
    for checks in (other_checks(sizes, values.interpret, backend), expert_checks(sizes, backend)):
        for subject, case, found, passed in checks:
            failed += not passed
            print(f"{subject:34}{case:22}{found}{'  WRONG' * (not passed)}", flush=True)
    print(f"{failed} faults")
    return int(failed > 0)


def main(argv: list[str]) -> int:
    """Runs the command; returns its exit status."""
    values = flags.FlagValues()
    for name, (default, help) in DEFAULT_SIZES.items():
        flags.DEFINE_integer(name, default, help, lower_bound=1, flag_values=values)
    help = "Run the kernels as plain JAX, on a machine without a GPU."
    flags.DEFINE_boolean("interpret", False, help, flag_values=values)
    return cli.run(values, lambda: check(values), argv, __doc__)


if __name__ == "__main__":
    sys.exit(main(sys.argv))
