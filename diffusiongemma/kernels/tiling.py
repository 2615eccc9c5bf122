"""What the Pallas kernels share: products of tiles, and loops shared out among programs."""

import jax
import jax.numpy as jnp

PROGRAMS = 128  # that keep a GPU busy: an H100 has 132 multiprocessors
WARPS = 8  # of programs whose sums take 128 registers a thread
SUMS = 2**15  # float32 numbers that such a program can hold


def dot(a: jax.Array, b: jax.Array, a_axis: int, b_axis: int) -> jax.Array:
    """The product of two tiles along an axis of each, in float32."""
    return jax.lax.dot_general(
        a,
        b,
        (((a_axis,), (b_axis,)), ((), ())),
        precision="highest" if b.dtype == jnp.float32 else None,  # or float32 were TF32
        preferred_element_type=jnp.float32,
    )


def num_splits(programs: int, steps: int) -> int:
    """Among how many programs to share a loop of some steps, if there are so many loops."""
    return min(max(PROGRAMS // programs, 1), steps)


def share(split: jax.Array, splits: int, steps: int) -> tuple[jax.Array, jax.Array]:
    """The first step of a split, and the one after its last."""
    return split * steps // splits, (split + 1) * steps // splits
