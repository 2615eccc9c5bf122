"""Compiled programs kept on disk from one run to the next."""

import os
from pathlib import Path

import jax


def enable() -> Path | None:
    """Turns on JAX's persistent compilation cache; the mains call this before they compile.

    JAX_COMPILATION_CACHE_DIR names another folder, and if it is empty there is no cache. Without
    it, the folder is diffusiongemma/jax in XDG_CACHE_HOME or ~/.cache.

    Returns:
      the folder, made by JAX when something is kept; None without a cache.
    """
    folder = os.environ.get("JAX_COMPILATION_CACHE_DIR")
    if folder is None:
        home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        folder = Path(home) / "diffusiongemma" / "jax"
    jax.config.update("jax_compilation_cache_dir", str(folder) if folder else None)
    return Path(folder) if folder else None
