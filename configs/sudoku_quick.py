"""The main job on 4x4 puzzles, in a few minutes (scripts/sudoku.sh --quick)."""

import ml_collections

from configs import sudoku


def get_config() -> ml_collections.ConfigDict:
    config = sudoku.get_config()
    config.steps = 1500
    config.data.update(prompt_length=36, box=2, clues="4-8")
    config.loss.canvas_size = 24
    config.eval.every = 750
    return config
