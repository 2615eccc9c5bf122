"""Building blocks of the layers: linear maps, RMSNorm, the GeGLU MLP, the embedding, RoPE.

Linear maps may carry LoRA factors (lora.py) and may be quantized (quantized_model.py). Some
gradients are written by hand, because XLA's sums are slow on CPUs. Read on in head.py.
"""

import functools

import jax
import jax.numpy as jnp
from flax import nnx
from jax.lax import Precision
from jax.typing import DTypeLike

from diffusiongemma.ops.quantized import matmul, take
from diffusiongemma.ops.reductions import sum_last

# Normal, with variance 1 / in. Kernels are [in, out], and those of experts [E, in, out].
kernel_init = nnx.initializers.variance_scaling(
    1.0, "fan_in", "normal", in_axis=-2, out_axis=-1, batch_axis=()
)
expert_init = nnx.initializers.variance_scaling(
    1.0, "fan_in", "normal", in_axis=-2, out_axis=-1, batch_axis=(0,)
)


class Linear(nnx.Module):
    """y = x @ kernel, plus x @ lora_a @ lora_b * lora_scale with LoRA.

    Attributes:
      kernel: [in_dim, out_dim]; it may become quantized (quantized_model.py).
      lora_a: [in_dim, r] float32 once lora.add_lora put it there; else None.
      lora_b: [r, out_dim] float32 once lora.add_lora put it there; else None.
      lora_scale: factor of x @ lora_a @ lora_b.

    There are more attributes if each mode has LoRA factors of its own (lora.in_mode).
    """

    def __init__(
        self, in_dim: int, out_dim: int, *, rngs: nnx.Rngs, dtype: DTypeLike = jnp.float32
    ):
        self.kernel = nnx.Param(kernel_init(rngs.params(), (in_dim, out_dim), dtype))
        self.lora_a = nnx.data(None)
        self.lora_b = nnx.data(None)
        self.lora_scale = 1.0

    def __call__(self, x: jax.Array) -> jax.Array:
        """[..., in_dim] -> [..., out_dim]."""
        y = matmul(x, self.kernel[...])
        if self.lora_a is not None:
            low = x.astype(jnp.float32) @ self.lora_a[...] @ self.lora_b[...]
            y = y + (low * self.lora_scale).astype(y.dtype)
        return y


def rms_norm(x: jax.Array, eps: float, scale: jax.Array | None = None) -> jax.Array:
    """x / rms(x) over the last axis, times the scale.

    Args:
      x: [..., D], any float dtype.
      eps: added to the mean square.
      scale: [D]; None for ones.

    Returns:
      [..., D] float32.
    """
    scale = jnp.ones(x.shape[-1:]) if scale is None else scale
    return _rms_norm(x, scale, eps)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _rms_norm(x: jax.Array, scale: jax.Array, eps: float) -> jax.Array:
    return _rms_norm_forward(x, scale, eps)[0]


Residuals = tuple[jax.Array, jax.Array, jax.Array]  # x, scale, 1 / rms(x) [..., 1]


def _rms_norm_forward(x: jax.Array, scale: jax.Array, eps: float) -> tuple[jax.Array, Residuals]:
    wide = x.astype(jnp.float32)
    rsqrt = jax.lax.rsqrt(jnp.mean(jnp.square(wide), axis=-1, keepdims=True) + eps)
    return wide * rsqrt * scale.astype(jnp.float32), (x, scale, rsqrt)


def _rms_norm_backward(
    eps: float, residuals: Residuals, dy: jax.Array
) -> tuple[jax.Array, jax.Array]:
    x, scale, rsqrt = residuals
    wide, factor = x.astype(jnp.float32), scale.astype(jnp.float32)
    both = dy * wide
    # The sum over all rows is a matrix product too (ops/reductions.py).
    dscale = jnp.tensordot(rsqrt[..., 0], both, x.ndim - 1, precision=Precision.HIGHEST)
    along = sum_last(both, scale)
    dx = rsqrt * (dy * factor - wide * (jnp.square(rsqrt) * along / x.shape[-1]))
    return dx.astype(x.dtype), dscale.astype(scale.dtype)


_rms_norm.defvjp(_rms_norm_forward, _rms_norm_backward)


class RMSNorm(nnx.Module):
    """RMS normalisation in float32. The scale multiplies directly: it is not 1 + scale.

    Attributes:
      scale: [dim], `init` everywhere at first.
      eps: added to the mean square.
    """

    def __init__(self, dim: int, eps: float, *, init: float = 1.0, dtype: DTypeLike = jnp.float32):
        self.scale = nnx.Param(jnp.full((dim,), init, dtype))
        self.eps = eps

    def __call__(self, x: jax.Array) -> jax.Array:
        """[..., dim] -> [..., dim] in x's dtype."""
        return rms_norm(x, self.eps, self.scale[...]).astype(x.dtype)


class GatedMLP(nnx.Module):
    """The GeGLU MLP down(gelu_tanh(gate(x)) * up(x)).

    Attributes:
      gate: D -> hidden.
      up: D -> hidden.
      down: hidden -> D.
    """

    def __init__(
        self,
        width: int,
        hidden: int,
        *,
        rngs: nnx.Rngs,
        dtype: DTypeLike = jnp.float32,
        linear: type[Linear] = Linear,
    ):
        self.gate = linear(width, hidden, rngs=rngs, dtype=dtype)
        self.up = linear(width, hidden, rngs=rngs, dtype=dtype)
        self.down = linear(hidden, width, rngs=rngs, dtype=dtype)

    def __call__(self, x: jax.Array) -> jax.Array:
        """[..., D] -> [..., D]."""
        return self.down(jax.nn.gelu(self.gate(x), approximate=True) * self.up(x))


class Embedder(nnx.Module):
    """The token embedding, which is multiplied by sqrt(D) on the way in and tied with the head.

    Attributes:
      embedding: [V, D], normal with variance 1 / D at first; it may become quantized.
    """

    def __init__(
        self, vocab_size: int, width: int, *, rngs: nnx.Rngs, dtype: DTypeLike = jnp.float32
    ):
        init = nnx.initializers.normal(width**-0.5)
        self.embedding = nnx.Param(init(rngs.params(), (vocab_size, width), dtype))

    def encode(self, tokens: jax.Array) -> jax.Array:
        """Tokens [...] int32 -> [..., D]."""
        return self._scale(take(self.embedding[...], tokens, self.embedding.dtype))

    def encode_soft(self, probabilities: jax.Array) -> jax.Array:
        """The expected embedding for probabilities [..., V] float32 -> [..., D]."""
        dtype = self.embedding.dtype
        return self._scale(matmul(probabilities.astype(dtype), self.embedding[...]))

    def decode(self, x: jax.Array) -> jax.Array:
        """Hidden states [..., D] -> logits [..., V] float32, before the softcap."""
        return matmul(x, self.embedding[...], transpose=True, dtype=jnp.float32)

    def _scale(self, x: jax.Array) -> jax.Array:
        return x * jnp.asarray(x.shape[-1] ** 0.5, x.dtype)


def rope_table(
    positions: jax.Array, head_dim: int, theta: float, fraction: float = 1.0
) -> tuple[jax.Array, jax.Array]:
    """Cosines and sines of the rotary position embedding (RoPE), "proportional" variant.

    Frequency i of head_dim / 2 is theta^(-2i / head_dim). Only the first `fraction` of them rotate,
    but the denominator of the exponent stays the whole head dim (docs/MODEL.md, Network).

    Args:
      positions: [B, T] int32.
      head_dim: size of a head, even.
      theta: base.
      fraction: the share of the frequencies that rotates.

    Returns:
      cosines and sines, [B, T, head_dim / 2] float32 each.
    """
    index = jnp.arange(head_dim // 2, dtype=jnp.float32)
    frequency = theta ** (-2.0 * index / head_dim)
    frequency = jnp.where(index < int(fraction * head_dim) // 2, frequency, 0.0)
    angle = positions[..., None].astype(jnp.float32) * frequency
    return jnp.cos(angle), jnp.sin(angle)


def apply_rope(x: jax.Array, cos: jax.Array, sin: jax.Array) -> jax.Array:
    """Rotates the pairs (i, i + head_dim / 2) of each head.

    Args:
      x: [B, T, heads, head_dim].
      cos: [B, T, head_dim / 2] float32, from rope_table.
      sin: the same.

    Returns:
      [B, T, heads, head_dim] in x's dtype.
    """
    first, second = jnp.split(x.astype(jnp.float32), 2, axis=-1)
    cos, sin = cos[:, :, None], sin[:, :, None]
    turned = jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)
    return turned.astype(x.dtype)
