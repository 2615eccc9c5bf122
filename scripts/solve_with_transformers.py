"""Lets transformers' own generate() solve Sudoku puzzles with a checkpoint of this project.

    pip install torch==2.13.0 transformers==5.23.0 numba==0.68.1 scipy==1.17.1
    python -m scripts.solve_with_transformers CHECKPOINT PUZZLES [COUNT]

It needs an environment of its own, without JAX. PUZZLES is a file of 9x9 puzzles, and the first
COUNT of them, 24 if it is not given, are asked in one batch. Of this project only the prompt is
used, and the check of the answers: the network, its weights and the sampler are those that
transformers makes from the folder CHECKPOINT. The exit status is 0 whatever is solved, and 1 if a
file cannot be used.
"""

import sys
import time

import numpy as np
import torch
from transformers.models.diffusion_gemma import DiffusionGemmaForBlockDiffusion

from data.sudoku.grids import parse, prompt
from data.sudoku.puzzle_file import read_puzzles
from data.text.chat import answer_text
from data.text.chat_template import ChatTemplate
from data.text.tokenizer import Tokenizer

BOX = 3


def main(checkpoint: str, file: str, count: str = "24") -> None:
    """Solves the puzzles and prints how many answers are right."""
    found = read_puzzles(file, BOX, limit=int(count))
    tokenizer = Tokenizer.load(checkpoint)
    template = ChatTemplate.load(checkpoint, tokenizer)
    asked = [[{"role": "user", "content": prompt(puzzle)}] for puzzle in found.puzzles]
    tokens = torch.tensor([tokenizer.encode(template.render(messages)) for messages in asked])

    model = DiffusionGemmaForBlockDiffusion.from_pretrained(checkpoint, dtype=torch.float32)
    torch.manual_seed(0)
    started = time.perf_counter()
    out = model.generate(tokens, max_new_tokens=model.config.canvas_length)
    seconds = time.perf_counter() - started
    new = out.sequences[:, tokens.shape[1] :]

    right = 0
    for row, solution in zip(new, found.solutions, strict=True):
        ends = torch.isin(row, torch.tensor(tokenizer.stop_ids)).nonzero()
        turn = row[: ends[0]] if len(ends) else row
        grid = parse(answer_text(tokenizer, turn.numpy()), BOX)
        right += grid is not None and np.array_equal(grid, solution)
    print(f"{right} of {len(asked)} puzzles solved, in {seconds:.0f} s")


if __name__ == "__main__":
    if len(sys.argv) not in (3, 4):
        sys.exit(__doc__)
    try:
        main(*sys.argv[1:])
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
