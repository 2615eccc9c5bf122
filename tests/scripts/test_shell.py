"""The shell scripts: what they name exists, and wrong arguments are one line before any work."""

import os
import re
import shutil
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
        (["sudoku.sh", "--seed=x"], "--seed takes a whole number of at most 18 digits, not 'x'"),
        (["sudoku.sh", "--seed="], "--seed takes a whole number of at most 18 digits, not ''"),
        (["sudoku.sh", "--seed=-1"], "--seed takes a whole number of at most 18 digits, not '-1'"),
        (["sudoku.sh", f"--seed={'9' * 20}"], f"of at most 18 digits, not '{'9' * 20}'"),
        (["gpu_train.sh", "OUT", "base", "--minutes=0"], "--minutes takes a whole number above 0"),
        (["gpu_train.sh", "OUT", "base", f"--minutes={'9' * 20}"], "of at most 6 digits, not '999"),
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


@pytest.fixture
def sudoku(tmp_path) -> Path:
    """scripts/sudoku.sh beside a setup.sh without work, and a python that notes what it is asked.

    The stage whose module stands in the file "fails" fails with status 3.
    """
    shutil.copy(ROOT / "scripts" / "sudoku.sh", tmp_path)
    (tmp_path / "setup.sh").write_text('cd "$(dirname "${BASH_SOURCE[0]}")"; PATH=$PWD:$PATH\n')
    (tmp_path / "python").write_text(
        '#!/bin/sh\necho "$@" >>"$(dirname "$0")/asked"\n'
        '[ "$2" != "$(cat "$(dirname "$0")/fails")" ] || exit 3\n'
    )
    (tmp_path / "python").chmod(0o755)
    (tmp_path / "fails").touch()
    return tmp_path


def run_sudoku(folder: Path, *arguments: str) -> tuple[int, str, list[str]]:
    """Exit status, stderr, and what each stage was asked."""
    command = ["bash", str(folder / "sudoku.sh"), "--quick", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"CI": ""})
    return done.returncode, done.stderr, (folder / "asked").read_text().splitlines()


@pytest.mark.parametrize(
    ("given", "seed"),
    [("0", 0), ("08", 8), ("010", 10), ("000", 0), ("9" * 18, 10**18 - 1), (f"{'0' * 30}7", 7)],
)
def test_the_seed_of_training_is_that_of_evaluation(sudoku, given, seed):
    status, errors, asked = run_sudoku(sudoku, f"--seed={given}")
    assert status == 0 and errors == ""
    modules = ["train.evaluate", "train.main", "train.evaluate", "train.report", "sample.page"]
    assert [line.split()[1] for line in asked] == modules
    assert f"--config.seed={seed} --workdir=runs/sudoku_quick-seed{seed}/train" in asked[1]
    for line in (asked[0], asked[2]):
        assert f" --seed={1000 + seed} " in line


@pytest.mark.parametrize(
    ("failing", "stage", "asked"),
    [
        ("train.evaluate", "stage 1 of 4 (evaluating the base model)", 1),
        ("train.main", "stage 2 of 4 (fine-tuning)", 2),
        ("train.report", "stage 4 of 4 (writing the report)", 4),
        ("sample.page", "stage 4 of 4 (writing the report)", 5),
    ],
)
def test_a_stage_that_fails_ends_the_script(sudoku, failing, stage, asked):
    (sudoku / "fails").write_text(failing)
    status, errors, lines = run_sudoku(sudoku)
    assert status == 3 and len(lines) == asked
    assert errors == f"error: stopped in {stage}; the same command goes on where it was\n"
