"""How the costly parts are computed: the experts, attention, and the head of a denoising step.

Each of these parts has a plain way and Pallas kernels for GPUs. A module's `backend` names the way;
None takes the kernels where there is one GPU and they support the arrays.
"""

from typing import Literal, get_args

from flax import nnx

from diffusiongemma.sharding import on_one_gpu

# The ways to compute the experts are
#   reference   every expert on every row; this defines the result
#   dense       all experts as one wide MLP, for small experts on GPUs (ops/dense_experts.py)
#   loop        a loop over blocks of rows, the way of CPUs (ops/expert_loop.py)
#   pallas      Pallas kernels, the way of GPUs (kernels/)
#   interpret   the same kernels run as plain JAX, for tests
# Attention and the head have no loop of their own: "reference", "dense" and "loop" all mean no
# kernels.
Backend = Literal["reference", "dense", "loop", "pallas", "interpret"]


def set_backend(model: nnx.Module, backend: Backend | None) -> None:
    """Chooses, in place, how a model or a part of one is computed.

    Args:
      model: a DiffusionGemma, or one of its modules.
      backend: the way; None chooses by platform.

    Raises:
      ValueError: there is no such backend.
    """
    if backend is not None and backend not in get_args(Backend):
        raise ValueError(f"no backend '{backend}'; there are: {', '.join(get_args(Backend))}")
    for _, node in nnx.iter_graph(model):
        if hasattr(node, "backend"):
            node.backend = backend


def takes_kernels(backend: Backend | None) -> bool:
    """Whether attention or the head takes its kernels, provided that they support its arrays."""
    return backend in ("pallas", "interpret") or (backend is None and on_one_gpu())
