"""What ends a generation: stop tokens, and logits that are no numbers."""

import jax
import jax.numpy as jnp
import numpy as np

from diffusiongemma.config import check_token


class NonFiniteLogits(FloatingPointError):
    """The logits have a NaN, so nothing can be sampled from them.

    Attributes:
      faults: row of the batch, from 0 -> what is wrong with it, for the rows with a NaN.
    """

    def __init__(self, faults: dict[int, str]):
        row, fault = next(iter(faults.items()))
        super().__init__(f"row {row} of the batch: {fault}")
        self.faults = faults


def check_finite(finite: jax.Array, where: str, numbers: jax.Array) -> None:
    """Raises NonFiniteLogits if there are rows that are not finite.

    Args:
      finite: [B] bool, rows whose logits had no NaN.
      where: what was sampled, such as "token".
      numbers: [B] int32, the number of each row's last one, from 1.
    """
    rows = np.flatnonzero(~np.asarray(finite))
    if rows.size:
        why = (
            "are not numbers: the weights are damaged, or they are float16, which ends at 65,504: "
            "load them as bfloat16 or float32 (--dtype)"
        )
        faults = {row: f"the logits of {where} {int(numbers[row])} {why}" for row in rows.tolist()}
        raise NonFiniteLogits(faults)


def check_stop_ids(stop_ids: tuple[int, ...] | None, vocab_size: int) -> None:
    """Raises ValueError if one of the ids is no token. None stands for those of the model."""
    for index in stop_ids or ():
        check_token("stop_ids", index, vocab_size)


def is_stop(tokens: jax.Array, stop_ids: tuple[int, ...]) -> jax.Array:
    """Marks the tokens that end a generation: [...] int32 -> [...] bool."""
    found = jnp.zeros(tokens.shape, bool)
    for stop_id in stop_ids:
        found |= tokens == stop_id
    return found


def count_valid(
    tokens: jax.Array,
    stop_ids: tuple[int, ...],
    limit: jax.Array | int,
    goes_on: jax.Array | None = None,
) -> tuple[jax.Array, jax.Array]:
    """Counts a canvas' tokens up to and with the first stop token, and at most `limit`.

    Args:
      tokens: [B, C] int32.
      stop_ids: tokens that end a generation; may be empty.
      limit: number of tokens that the generation may still take.
      goes_on: [B, C] bool, positions at which no stop token ends a generation; None for none.

    Returns:
      valid: [B] int32, the counts; and ended: [B] bool, whether a stop token among the tokens ends
      the generation.
    """
    stops = is_stop(tokens, stop_ids)
    if goes_on is not None:
        stops &= ~goes_on
    size = tokens.shape[1]
    limit = jnp.minimum(limit, size)
    first = jnp.where(stops.any(axis=1), jnp.argmax(stops, axis=1), size)
    return jnp.minimum(first + 1, limit).astype(jnp.int32), first < limit


def cut(tokens: jax.Array, valid: jax.Array, pad_id: int) -> jax.Array:
    """Replaces what follows the first `valid` [B] tokens of each row of [B, C] by pad."""
    return jnp.where(jnp.arange(tokens.shape[1]) < valid[:, None], tokens, pad_id)
