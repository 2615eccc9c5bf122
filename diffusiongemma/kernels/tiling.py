"""What the Pallas kernels share: their sizes, products of tiles, and loops split among programs.

A kernel is run by many programs side by side. Each of them computes one tile of the result, and
walks along the summed axis in steps. Where there are too few tiles to keep a GPU busy, the steps of
one tile are split among several programs, and their sums are added afterwards.
"""

import jax
import jax.numpy as jnp

PROGRAMS = 128  # programs that keep a GPU busy: an H100 has 132 multiprocessors
WARPS = 8  # warps of a program that keeps its sums in 128 registers a thread
SUMS = 2**15  # float32 sums that such a program can keep
STEP = 64  # entries of the summed axis that a program reads in one step


def dot(a: jax.Array, b: jax.Array, a_axis: int, b_axis: int) -> jax.Array:
    """The product of two tiles, summed over one axis of each, in float32."""
    return jax.lax.dot_general(
        a,
        b,
        (((a_axis,), (b_axis,)), ((), ())),
        # Without this, float32 would be multiplied as TF32.
        precision="highest" if b.dtype == jnp.float32 else None,
        preferred_element_type=jnp.float32,
    )


def num_splits(programs: int, steps: int) -> int:
    """How many programs share the steps of one tile, when the tiles alone take `programs`."""
    return min(max(PROGRAMS // programs, 1), steps)


def share(split: jax.Array, splits: int, steps: int) -> tuple[jax.Array, jax.Array]:
    """The first step of a split, and the step after its last one."""
    return split * steps // splits, (split + 1) * steps // splits
