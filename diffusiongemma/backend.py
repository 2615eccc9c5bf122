"""How the costly parts are computed: experts, attention, and the head of a denoising step."""

from typing import Literal, get_args

from flax import nnx

from diffusiongemma.sharding import on_one_gpu

# Of experts: every one on every row, as a definition; a loop over blocks of rows, the way of CPUs;
# Pallas kernels, the way of GPUs; the same kernels as plain JAX, for tests. For attention and the
# head, the first two are the same: no kernels.
Backend = Literal["reference", "loop", "pallas", "interpret"]


def set_backend(model: nnx.Module, backend: Backend | None) -> None:
    """Chooses how a model, or a part of one, is computed, in place; None: the platform's way.

    Raises:
      ValueError: no such backend.
    """
    if backend is not None and backend not in get_args(Backend):
        raise ValueError(f"no backend '{backend}'; there are: {', '.join(get_args(Backend))}")
    for _, node in nnx.iter_graph(model):
        if hasattr(node, "backend"):
            node.backend = backend


def takes_kernels(backend: Backend | None, supported: bool) -> bool:
    """Whether attention or the head is computed by its kernels, if they support its arrays."""
    if backend == "interpret":
        return True
    return supported and (backend == "pallas" or (backend is None and on_one_gpu()))
