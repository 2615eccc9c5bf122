"""Arguments of a custom forward rule that is told which of its arrays are differentiated."""

from typing import Any, TypeVar

import jax
from jax.custom_derivatives import CustomVJPPrimal

T = TypeVar("T")


def split_primals(args: T) -> tuple[T, T]:
    """Takes the arguments of a forward rule apart.

    A rule that is defined with `defvjp(..., symbolic_zeros=True)` gets a CustomVJPPrimal in place
    of every array.

    Args:
      args: a tree of CustomVJPPrimals.

    Returns:
      two trees of the same structure: the arrays, and bools that are True where the array is
      differentiated.
    """

    def is_primal(x: Any) -> bool:
        return isinstance(x, CustomVJPPrimal)

    values = jax.tree.map(lambda primal: primal.value, args, is_leaf=is_primal)
    return values, jax.tree.map(lambda primal: primal.perturbed, args, is_leaf=is_primal)
