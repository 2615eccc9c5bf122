"""What a chat loads: each package that it has no use for would make every start slower."""

import subprocess
import sys
from pathlib import Path

import pytest

from diffusiongemma import load_checkpoint, save_checkpoint

ROOT = Path(__file__).parents[2]
UNUSED = ("matplotlib", "numba", "orbax", "starlette", "tensorstore", "uvicorn")

CHAT = """
import io, sys

class Terminal(io.StringIO):
    def isatty(self):
        return True

sys.stdin = Terminal("Hi\\n\\n")
from sample import main
assert main.main(["main", f"--checkpoint={sys.argv[1]}", "--max_steps=1", "--nodraft"]) == 0
"""
OPEN = """
import sys
from sample.checkpoint import Checkpoint
assert Checkpoint.open(sys.argv[1]).config.vocab_size == 1024
"""
LOADED = """
import sys
print("loaded:", *sorted(set(sys.argv[2].split(",")) & set(sys.modules)))
"""


def loaded(program: str, folder: Path) -> list[str]:
    """Which of UNUSED a fresh process has loaded after it ran a program on a folder."""
    command = [sys.executable, "-c", program + LOADED, str(folder), ",".join(UNUSED)]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return run.stdout.splitlines()[-1].split()[1:]


@pytest.mark.parametrize("program", [CHAT, OPEN], ids=["chat", "open"])
def test_a_released_checkpoint_takes_no_orbax(folder, program):
    assert loaded(program, folder) == []


def test_orbax_comes_with_its_checkpoints(folder, tmp_path):
    save_checkpoint(load_checkpoint(folder), tmp_path / "orbax", format="orbax")
    assert "tensorstore" in loaded(OPEN, tmp_path / "orbax")
