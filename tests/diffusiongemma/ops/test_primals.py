"""Which arguments of a forward rule are differentiated."""

import jax
import jax.numpy as jnp

from diffusiongemma.ops.primals import split_primals


def test_values_and_what_is_differentiated():
    seen = []

    @jax.custom_vjp
    def total(x, pair):
        return x + pair["a"] * pair["b"]

    def forward(*args):
        values, differentiated = split_primals(args)
        seen.append(differentiated)
        return total(*values), values

    total.defvjp(forward, lambda pair, d: (d, {"a": d, "b": d}), symbolic_zeros=True)
    one = jnp.float32(1)

    def of_a(a):
        return total(one, {"a": a, "b": one})

    assert jax.grad(of_a)(one) == 1
    assert seen == [(False, {"a": True, "b": False})]
