"""The shell scripts: what they name exists, and wrong arguments are one line before any work."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def test_the_quick_tests_exist():
    text = (ROOT / "scripts" / "test.sh").read_text()
    paths = re.search(r"^quick=\((.*?)^\)", text, re.MULTILINE | re.DOTALL)[1].split()
    assert len(paths) > 5 and not [path for path in paths if not (ROOT / path).exists()]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["sudoku.sh", "--slow"], "unknown argument '--slow': use --quick, --seed=N and --out=DIR"),
        (["sudoku.sh", "--seed=x"], "--seed takes a whole number, not 'x'"),
        (["gpu_check.sh"], "usage: bash scripts/gpu_check.sh OUT"),
        (["gpu_check.sh", "OUT", "fp8"], "no stage 'fp8': use kernels, bf16, int8, int4, lora"),
    ],
)
def test_wrong_arguments_are_one_line(arguments, said, tmp_path):
    script, *rest = arguments
    command = ["bash", str(ROOT / "scripts" / script), *rest]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert done.stderr.startswith("error: ") and said in done.stderr
