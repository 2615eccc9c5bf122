"""The GPU's kernels on the GPU against plain float32, at the 26B's sizes; status 1 if one is off.

    python -m scripts.check_kernels

For floats, int8 and int4, rows in float32 and bfloat16, and several routings: the mixture of
experts and the gradients of its rows and LoRA factors, beside every expert on every row with the
weights that the quantized ones stand for. An error is |found - wanted| / |wanted|. On a CPU,
--interpret runs the kernels as plain JAX; give it a small --width, --hidden and --num_experts.
"""

import functools
import sys

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

from diffusiongemma.moe import Expert, mix
from diffusiongemma.quantize import Quantized, dequantize, quantize
from sample import cli

RANK = 8
KINDS = ("float32", "bfloat16", "int8", "int4")
LARGEST = {"float32": 1e-5, "bfloat16": 1.5e-2}  # by the dtype of rows


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
        out = mix(x, weights, chosen, tuple(some), backend)
        return jnp.sum(out * direction), out

    factors = [(p.lora_a, p.lora_b) for p in params]
    with jax.default_matmul_precision("highest"):
        gradients, out = jax.grad(total, (0, 1), has_aux=True)(x, factors)
    return {"out": out, "dx": gradients[0], "dlora": gradients[1]}


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
            params, plain = zip(*experts, strict=True)
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
    ):
        help = "Of the mixture; default: the 26B's, with half the experts."
        flags.DEFINE_integer(name, default, help, lower_bound=1, flag_values=values)
    flags.DEFINE_boolean("interpret", False, "No GPU needed.", flag_values=values)
    return cli.run(values, lambda: check(values), argv, __doc__)


if __name__ == "__main__":
    sys.exit(main(sys.argv))
