"""The folder of compiled programs, and that a second process finds them there."""

import os
import subprocess
import sys

import jax
import pytest

from sample import compile_cache

# Prints whether the compiled program came from the folder, instead of being compiled anew.
PROGRAM = """
import jax, jax.numpy as jnp
from sample import compile_cache
print(compile_cache.enable())
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
events = []
jax.monitoring.register_event_listener(lambda event, **_: events.append(event))
jax.jit(lambda x: jnp.sin(x) @ x)(jnp.ones((3, 3)))
print(any(event.endswith("cache_hits") for event in events))
"""


@pytest.fixture
def restored(monkeypatch):
    before = jax.config.jax_compilation_cache_dir
    yield monkeypatch
    jax.config.update("jax_compilation_cache_dir", before)


def test_where_it_is(restored, tmp_path):
    restored.delenv("JAX_COMPILATION_CACHE_DIR")
    restored.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert compile_cache.enable() == tmp_path / "diffusiongemma" / "jax"
    assert jax.config.jax_compilation_cache_dir == str(tmp_path / "diffusiongemma" / "jax")
    restored.delenv("XDG_CACHE_HOME")
    restored.setenv("HOME", str(tmp_path))
    assert compile_cache.enable() == tmp_path / ".cache" / "diffusiongemma" / "jax"
    restored.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path / "mine"))
    assert compile_cache.enable() == tmp_path / "mine"
    restored.setenv("JAX_COMPILATION_CACHE_DIR", "")
    assert compile_cache.enable() is None
    assert jax.config.jax_compilation_cache_dir is None


def test_our_folder_is_closed_to_others(restored, tmp_path, capsys):
    restored.delenv("JAX_COMPILATION_CACHE_DIR")
    restored.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder = tmp_path / "diffusiongemma" / "jax"
    for _ in range(2):
        assert compile_cache.enable() == folder
        assert folder.stat().st_mode & 0o777 == 0o700
        folder.chmod(0o777)  # as an older version may have left it
    restored.setattr(os, "geteuid", lambda: folder.stat().st_uid + 1)
    assert compile_cache.enable() is None
    assert jax.config.jax_compilation_cache_dir is None
    said = f"{folder}: belongs to another user, and compiled programs in it would be run"
    assert capsys.readouterr().err.startswith(said)


def test_a_folder_that_anybody_can_write_to_is_not_used(restored, tmp_path, capsys):
    folder = tmp_path / "shared"
    folder.mkdir()
    restored.setenv("JAX_COMPILATION_CACHE_DIR", str(folder))
    for mode in (0o755, 0o775):
        folder.chmod(mode)
        assert compile_cache.enable() == folder
        assert folder.stat().st_mode & 0o777 == mode  # it is not ours to change
    folder.chmod(0o1777)
    assert compile_cache.enable() is None
    said = f"{folder}: can be written to by others, and compiled programs in it would be run"
    assert capsys.readouterr().err.startswith(said)


def test_a_second_process_compiles_nothing(tmp_path):
    environment = os.environ | {"JAX_COMPILATION_CACHE_DIR": str(tmp_path / "jax")}
    for hit in ("False", "True"):
        run = subprocess.run(
            [sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True
        )
        assert run.returncode == 0, run.stderr
        assert run.stdout.split() == [str(tmp_path / "jax"), hit]
        assert not run.stderr
