"""Starts runs of train.main in processes of their own, as users do."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def environment_for(folder: Path, config: str) -> dict[str, str]:
    """The environment for `start`. It names the config's file and a cache of compiled programs.

    Args:
      folder: the folder for both.
      config: the text of the config file.
    """
    (folder / "config.py").write_text(config)
    return os.environ | {
        "CONFIG": str(folder / "config.py"),
        "JAX_COMPILATION_CACHE_DIR": str(folder / "xla"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }


def start(workdir: Path, environment: dict[str, str], *more: str) -> subprocess.Popen[str]:
    """Starts a run with these further flags."""
    config = environment["CONFIG"]
    command = [sys.executable, "-m", "train.main", f"--config={config}", f"--workdir={workdir}"]
    return subprocess.Popen(
        [*command, *more],
        cwd=ROOT,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def finish(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Waits for a run. Returns its exit status and the last line of its stderr."""
    _, errors = process.communicate(timeout=300)
    lines = errors.replace("\r", "\n").strip().splitlines()
    return process.returncode, lines[-1] if lines else ""
