"""Building blocks: linear maps with optional LoRA factors, RMSNorm, RoPE, GeGLU, the embedder."""

import functools

import jax
import jax.numpy as jnp
from flax import nnx
from jax.lax import Precision

from diffusiongemma.ops.quantized import matmul, take

# The largest fan-in lies on the second axis from the end, also for stacks of experts [E, in, out].
kernel_init = nnx.initializers.variance_scaling(
    1.0, "fan_in", "normal", in_axis=-2, out_axis=-1, batch_axis=()
)
expert_init = nnx.initializers.variance_scaling(
    1.0, "fan_in", "normal", in_axis=-2, out_axis=-1, batch_axis=(0,)
)


class Linear(nnx.Module):
    """y = x @ kernel, plus x @ lora_a @ lora_b * lora_scale once lora.add_lora put them there.

    Args:
      in_dim, out_dim: kernel is [in_dim, out_dim]; it may become quantized (quantized_model.py).
      rngs: source of the initial weights.
      dtype: of the kernel.
    """

    def __init__(self, in_dim: int, out_dim: int, *, rngs: nnx.Rngs, dtype=jnp.float32):
        self.kernel = nnx.Param(kernel_init(rngs.params(), (in_dim, out_dim), dtype))
        self.lora_a = nnx.data(None)
        self.lora_b = nnx.data(None)
        self.lora_scale = 1.0

    def __call__(self, x: jax.Array) -> jax.Array:
        y = matmul(x, self.kernel[...])
        if self.lora_a is not None:
            low = x.astype(jnp.float32) @ self.lora_a[...] @ self.lora_b[...]
            y = y + (low * self.lora_scale).astype(y.dtype)
        return y


def sum_last(x: jax.Array, weights: jax.Array | None = None) -> jax.Array:
    """Sums of x [..., n], each number times its weight [n] if given: [..., 1] float32.

    As a matrix product: XLA's reductions on CPUs take several times as long.
    """
    weights = jnp.ones(x.shape[-1:]) if weights is None else weights.astype(jnp.float32)
    return jnp.matmul(x.astype(jnp.float32), weights[:, None], precision=Precision.HIGHEST)


def rms_norm(x: jax.Array, eps: float, scale: jax.Array | None = None) -> jax.Array:
    """x / rms(x) over the last axis, times scale [D] if given; computed and returned in float32."""
    scale = jnp.ones(x.shape[-1:]) if scale is None else scale
    return _rms_norm(x, scale, eps)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _rms_norm(x: jax.Array, scale: jax.Array, eps: float) -> jax.Array:
    return _rms_norm_forward(x, scale, eps)[0]


def _rms_norm_forward(x, scale, eps):
    wide = x.astype(jnp.float32)
    rsqrt = jax.lax.rsqrt(jnp.mean(jnp.square(wide), axis=-1, keepdims=True) + eps)
    return wide * rsqrt * scale.astype(jnp.float32), (x, scale, rsqrt)


def _rms_norm_backward(eps, residuals, dy):
    x, scale, rsqrt = residuals
    wide, factor = x.astype(jnp.float32), scale.astype(jnp.float32)
    both = dy * wide
    # Over all rows; a matrix product too.
    dscale = jnp.tensordot(rsqrt[..., 0], both, x.ndim - 1, precision=Precision.HIGHEST)
    along = sum_last(both, scale)
    dx = rsqrt * (dy * factor - wide * (jnp.square(rsqrt) * along / x.shape[-1]))
    return dx.astype(x.dtype), dscale.astype(scale.dtype)


_rms_norm.defvjp(_rms_norm_forward, _rms_norm_backward)


class RMSNorm(nnx.Module):
    """RMS normalisation in float32; the scale multiplies directly (no 1 + scale).

    Args:
      dim: size of the last axis.
      eps: added to the mean square.
      init: initial value of the scale.
      dtype: of the scale.
    """

    def __init__(self, dim: int, eps: float, *, init: float = 1.0, dtype=jnp.float32):
        self.scale = nnx.Param(jnp.full((dim,), init, dtype))
        self.eps = eps

    def __call__(self, x: jax.Array) -> jax.Array:
        return rms_norm(x, self.eps, self.scale[...]).astype(x.dtype)


class GatedMLP(nnx.Module):
    """GeGLU: down(gelu_tanh(gate(x)) * up(x)), [..., D] -> [..., D]."""

    def __init__(self, width: int, hidden: int, *, rngs: nnx.Rngs, dtype=jnp.float32):
        self.gate = Linear(width, hidden, rngs=rngs, dtype=dtype)
        self.up = Linear(width, hidden, rngs=rngs, dtype=dtype)
        self.down = Linear(hidden, width, rngs=rngs, dtype=dtype)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.down(jax.nn.gelu(self.gate(x), approximate=True) * self.up(x))


class Embedder(nnx.Module):
    """Token embedding [V, D], scaled by sqrt(D) on the way in and tied with the output head."""

    def __init__(self, vocab_size: int, width: int, *, rngs: nnx.Rngs, dtype=jnp.float32):
        init = nnx.initializers.normal(width**-0.5)
        self.embedding = nnx.Param(init(rngs.params(), (vocab_size, width), dtype))

    def encode(self, tokens: jax.Array) -> jax.Array:
        """[...] int32 -> [..., D]."""
        return self._scale(take(self.embedding[...], tokens, self.embedding.dtype))

    def encode_soft(self, probabilities: jax.Array) -> jax.Array:
        """Expected embedding: [..., V] float32 probabilities -> [..., D]."""
        dtype = self.embedding.dtype
        return self._scale(matmul(probabilities.astype(dtype), self.embedding[...]))

    def decode(self, x: jax.Array) -> jax.Array:
        """[..., D] -> logits [..., V] in float32, before the softcap."""
        return matmul(x, self.embedding[...], transpose=True, dtype=jnp.float32)

    def _scale(self, x: jax.Array) -> jax.Array:
        return x * jnp.asarray(x.shape[-1] ** 0.5, x.dtype)


def rope_table(
    positions: jax.Array, head_dim: int, theta: float, fraction: float = 1.0
) -> tuple[jax.Array, jax.Array]:
    """Cosines and sines of the rotary embedding, "proportional" variant.

    Frequency i of head_dim / 2 is theta^(-2i / head_dim); only the first `fraction` of them rotate,
    while the exponent's denominator stays the whole head dim (SPEC section 1).

    Args:
      positions: [B, T] int32.
      head_dim: size of a head, even.
      theta: base.
      fraction: part of the frequencies that rotates.

    Returns:
      cos, sin: [B, T, head_dim / 2] float32.
    """
    index = jnp.arange(head_dim // 2, dtype=jnp.float32)
    frequency = theta ** (-2.0 * index / head_dim)
    frequency = jnp.where(index < int(fraction * head_dim) // 2, frequency, 0.0)
    angle = positions[..., None].astype(jnp.float32) * frequency
    return jnp.cos(angle), jnp.sin(angle)


def apply_rope(x: jax.Array, cos: jax.Array, sin: jax.Array) -> jax.Array:
    """Turns the pairs (i, i + head_dim / 2) of x [B, T, heads, head_dim] by the table's angles."""
    first, second = jnp.split(x.astype(jnp.float32), 2, axis=-1)
    cos, sin = cos[:, :, None], sin[:, :, None]
    turned = jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)
    return turned.astype(x.dtype)
