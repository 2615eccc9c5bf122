"""Trains LoRA factors of rank 8 beside the released 26B-A4B model, on your own conversations.

    python -m train.main --config=configs/chat_26b_lora.py --workdir=runs/chat_26b_lora \
        --config.init=DIR --config.data.path=FILE.jsonl

DIR is the checkpoint's folder. Its tokenizer and its chat template are used. A record of FILE.jsonl
has "messages", or "prompt" and "response", or another form (data/text/records.py). The assistant's
last answer is learned. Long conversations need a larger data.prompt_length and more
loss.num_canvases. Before the run loads any weights, it says what the file needs. The recipe is that
of Google's LoRA config (docs/MODEL.md, Losses).
"""

import ml_collections

from configs import sudoku_26b_lora


def get_config() -> ml_collections.ConfigDict:
    """The fields of the run's RunConfig (train/config.py)."""
    config = sudoku_26b_lora.get_config()
    config.steps = 2000
    config.data = {"task": "conversations", "prompt_length": 1024, "path": ""}
    config.loss.update(num_canvases=4, encoder_targets="answer")
    config.optimizer.update(peak_lr=1.5e-4, end_lr=1.5e-5, warmup=100)
    config.eval.update(every=250, num=32, batch_size=2)
    return config
