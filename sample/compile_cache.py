"""Compiled programs kept on disk from one run to the next."""

import os
from pathlib import Path

import jax


def enable() -> Path | None:
    """Turns on JAX's persistent compilation cache. Commands call this before they compile.

    The folder is diffusiongemma/jax in XDG_CACHE_HOME, or in ~/.cache. The environment variable
    JAX_COMPILATION_CACHE_DIR names another folder; if it is empty, there is no cache.

    Returns:
      the folder, which JAX makes when it keeps a program; None if there is no cache.
    """
    folder = os.environ.get("JAX_COMPILATION_CACHE_DIR")
    if folder is None:
        home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        folder = Path(home) / "diffusiongemma" / "jax"
    jax.config.update("jax_compilation_cache_dir", str(folder) if folder else None)
    return Path(folder) if folder else None
