"""The Python blocks of the README run one after another, and its picture is read."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

from sample.main import main

ROOT = Path(__file__).parents[1]
# Checks what the README says about the task and the rule that its blocks define.
THEN = """
assert Doubling(largest=10).open(0, None).test[1] == 3
assert Doubling().text(21) == ("Double 21", "42")
settings = SamplerConfig(**sampler_defaults(folder))
again = generate(model, tokens, None, jax.random.key(0), settings, rule=sure_ones)
assert logits.shape == (1, model.config.canvas_size, model.config.vocab_size)
print(tokenizer.decode(again.tokens[0]))
"""


def test_the_python_lines_run():
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert len(blocks) == 3
    lines = "\n".join(blocks) + THEN
    done = subprocess.run(
        [sys.executable, "-c", lines], cwd=ROOT, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr
    solved, again = re.fullmatch(
        r"(.*) \[\[\d+\]\] denoising steps\n[\d.]+ nats\n(.*)", done.stdout, re.S
    ).groups()
    puzzle = re.search(r'rows = "([\d ]+)"', blocks[0])[1].replace(" ", "")
    for answer in (solved, again):
        digits = "".join(answer.split())
        assert len(digits) == 81
        assert all(clue in ("0", digit) for clue, digit in zip(puzzle, digits, strict=True))


def test_the_picture_of_a_puzzle_is_solved_and_copied(capsys):
    text = (ROOT / "README.md").read_text()
    ((line, picture),) = re.findall(r"python -m sample.main (.*--image=(\S+) .*sudoku.*)", text)
    flags = [
        part.replace("docs/", f"{ROOT}/docs/").replace("checkpoints/", f"{ROOT}/checkpoints/")
        for part in shlex.split(line)
    ]
    assert flags[-1] == "--prompt=Solve the sudoku:" and (ROOT / picture).is_file()
    answers = []
    for prompt in (flags[-1], "--prompt=Copy the grid:"):
        assert main(["main", *flags[:-1], prompt]) == 0
        answers.append("".join(capsys.readouterr().out.split()))
    # What is seen in docs/photo.png, and what solves it.
    assert answers == ["2431134232144123", "2400000002000003"]
