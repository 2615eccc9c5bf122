"""Shared by the tests of kernels: programs for GPUs that need not be there."""

from collections.abc import Callable
from contextlib import AbstractContextManager

import jax
from jax.sharding import AbstractDevice, AbstractMesh, AxisType, use_abstract_mesh

# jax 0.11.2 warns of this, though it still has the backend. The versions are pinned.
DEPRECATED = "ignore:The Pallas Triton backend is deprecated:DeprecationWarning"


def on_gpus(count: int = 1) -> AbstractContextManager:
    """A context in which there are H100s, as far as tracing can tell."""
    device = AbstractDevice("NVIDIA H100 80GB HBM3", None, "gpu")
    names, auto = ("data", "fsdp", "expert"), (AxisType.Auto,) * 3
    return use_abstract_mesh(AbstractMesh((count, 1, 1), names, auto, abstract_device=device))


def lowered(function: Callable, *args, **kwargs) -> str:
    """A function's program for an H100."""
    with on_gpus():
        return (
            jax.jit(function).trace(*args, **kwargs).lower(lowering_platforms=("cuda",)).as_text()
        )
