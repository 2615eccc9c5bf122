"""Runs of train.main as users start them, in processes of their own."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def environment_for(folder: Path, config: str) -> dict[str, str]:
    """What start takes: a config's text as a file, and a cache for what its runs compile."""
    (folder / "config.py").write_text(config)
    return os.environ | {
        "CONFIG": str(folder / "config.py"),
        "JAX_COMPILATION_CACHE_DIR": str(folder / "xla"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }


def start(workdir: Path, environment, *more: str) -> subprocess.Popen:
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


def finish(process: subprocess.Popen) -> tuple[int, str]:
    """Exit status, and the last line of stderr."""
    _, errors = process.communicate(timeout=300)
    lines = errors.replace("\r", "\n").strip().splitlines()
    return process.returncode, lines[-1] if lines else ""
