"""What is measured on answers: intervals of shares, and the steps that canvases take.

TR is the technical report, arXiv 2608.00146; see docs/MODEL.md, Measures.
"""

import math

import numpy as np
from numpy.typing import ArrayLike


def wilson(successes: float, n: int, z: float = 1.959964) -> tuple[float, float]:
    """The Wilson score interval of a share; z = 1.959964 gives the 95 % interval.

        (p + z^2 / 2n -+ z sqrt(p (1 - p) / n + z^2 / 4n^2)) / (1 + z^2 / n),  p = successes / n

    Returns:
      (low, high), floats in 0..1; (0, 1) for n = 0.

    Raises:
      ValueError: unless 0 <= successes <= n.
    """
    if not 0 <= successes <= n:
        raise ValueError(f"{successes} successes of {n}: expected 0 <= successes <= n")
    if n == 0:
        return 0.0, 1.0
    share = successes / n
    centre = share + z * z / (2 * n)
    spread = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    # Rounding must not move the ends that are exactly 0 and 1.
    low = 0.0 if successes == 0 else (centre - spread) / scale
    high = 1.0 if successes == n else (centre + spread) / scale
    return low, high


def share(values: np.ndarray) -> dict[str, float]:
    """The mean of N values from 0 to 1, with the 95 % Wilson interval of N trials.

    Args:
      values: [N], N > 0. If some lie between 0 and 1, the interval is wider than necessary.

    Returns:
      {"rate", "low", "high", "count"}: the mean, the ends of the interval, and N.
    """
    total, count = float(values.sum()), len(values)
    low, high = wilson(min(total, count), count)
    return {"rate": total / count, "low": low, "high": high, "count": count}


def _steps_and_tokens(steps: ArrayLike, valid_tokens: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    steps, valid_tokens = np.asarray(steps, np.float64), np.asarray(valid_tokens, np.float64)
    if steps.ndim != 1 or steps.shape != valid_tokens.shape or not steps.size:
        raise ValueError(
            f"expected one number per canvas, got steps {steps.shape}, tokens {valid_tokens.shape}"
        )
    return steps, valid_tokens


def effective_steps(steps: ArrayLike, valid_tokens: ArrayLike) -> float:
    """The denoising steps behind the average valid token of a sequence (TR).

        sum_k N_k C_k / sum_k C_k

    Args:
      steps: [K], the denoising steps N_k spent on canvas k.
      valid_tokens: [K], the tokens C_k of canvas k up to and with the first stop token.

    Returns:
      float; nan if the sequence has no valid token.

    Raises:
      ValueError: the shapes differ, or K = 0.
    """
    steps, valid_tokens = _steps_and_tokens(steps, valid_tokens)
    total = valid_tokens.sum()
    return float((steps * valid_tokens).sum() / total) if total else math.nan


def tokens_per_forward(
    steps: ArrayLike, valid_tokens: ArrayLike, num_canvases: int, num_sequences: int = 1
) -> float:
    """Valid tokens per forward pass of a sequence (TR), or of several.

        sum_k C_k / (sum_k N_k + K - 1)

    Every canvas but a sequence's last costs one more pass, which commits it to the cache. The
    prompt's prefill is not counted.

    Args:
      steps: [K], the denoising steps N_k spent on canvas k.
      valid_tokens: [K], the tokens C_k of canvas k up to and with the first stop token.
      num_canvases: K.
      num_sequences: how many sequences the canvases are of; as many commits are saved.

    Returns:
      float.

    Raises:
      ValueError: the shapes differ, K = 0, or K is not num_canvases.
    """
    steps, valid_tokens = _steps_and_tokens(steps, valid_tokens)
    if len(steps) != num_canvases:
        raise ValueError(f"got {len(steps)} canvases, expected num_canvases = {num_canvases}")
    return float(valid_tokens.sum() / (steps.sum() + num_canvases - num_sequences))
