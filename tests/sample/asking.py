"""What the tests of the command ask, and how they run it."""

import json
from pathlib import Path

import numpy as np

from data.text.chat import split_turn
from data.text.holes import read_pieces
from data.text.tokenizer import Tokenizer
from sample import main as command
from sample.command.fill import Outline, outline
from sample.given import Given
from tests.data.text.messages import chat_prompt

CANVAS, NEW = 16, 24  # two canvases, the second one cut
FLAGS = (f"--max_new_tokens={NEW}", "--max_steps=3", "--seed=5")
PROMPTS = ("Solve it: 1 2 3", "What is 2 + 2?", "Write it: a b c d")
WIDTH = 64  # to which prompts are padded; with another one rounding might differ


def padded_prompt(text: str) -> tuple[np.ndarray, np.ndarray]:
    tokens = np.array(Tokenizer.load().encode(chat_prompt(text)), np.int32)
    tokens = np.pad(tokens, (0, WIDTH - len(tokens)))[None]
    return tokens, tokens > 0


def answer_text(tokens: np.ndarray) -> str:
    return split_turn(Tokenizer.load().decode(tokens, skip_special=False)).answer


def run(folder: Path, *flags: str) -> int:
    return command.main(["main", f"--checkpoint={folder}", *FLAGS, *flags])


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def outline_of(text: str, tokenizer: Tokenizer, limit: int | None = None) -> Outline:
    pieces = read_pieces(text, None, None)
    return outline(pieces, tokenizer, tokenizer.stop_ids, CANVAS, limit)


def asked(text: str, tokenizer: Tokenizer, *lengths: int) -> tuple[Outline, list[int], Given]:
    """The outline, the sizes with these lengths of the holes, and what is given."""
    form, picks = outline_of(text, tokenizer), iter(lengths)
    sizes = form.sizes(lambda options: next(picks))
    return form, sizes, form.given(sizes)
