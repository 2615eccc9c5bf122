"""How the two costly parts of a layer are computed: experts and attention."""

from typing import Literal, get_args

from flax import nnx

# Of experts: every one on every row, as a definition; a loop over blocks of rows, the way of CPUs;
# Pallas kernels, the way of GPUs; the same kernels as plain JAX, for tests. Attention has kernels,
# or none.
Backend = Literal["reference", "loop", "pallas", "interpret"]


def set_backend(model: nnx.Module, backend: Backend | None) -> None:
    """Chooses how a model's layers are computed, in place; None: the platform's way.

    Raises:
      ValueError: no such backend.
    """
    if backend is not None and backend not in get_args(Backend):
        raise ValueError(f"no backend '{backend}'; there are: {', '.join(get_args(Backend))}")
    for _, node in nnx.iter_graph(model):
        if hasattr(node, "backend"):
            node.backend = backend
