"""Processes that hold something and are killed."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def start_holder(code: str, *arguments: object) -> subprocess.Popen[str]:
    """Runs code that must print a line when it holds what it holds; returns after that line.

    Args:
      code: lines of Python, in which `arguments` are sys.argv[1:] and `wait()` never returns.
      arguments: given as text.
    """
    head = "import sys, time\ndef wait():\n  print('holds', flush=True)\n  time.sleep(600)\n"
    process = subprocess.Popen(
        [sys.executable, "-c", head + code, *map(str, arguments)],
        cwd=ROOT,
        text=True,
        stdout=subprocess.PIPE,
    )
    assert process.stdout.readline() == "holds\n"
    return process


def kill(process: subprocess.Popen[str]) -> None:
    """Kills a process at once, as a scheduler does."""
    process.kill()
    process.communicate()
