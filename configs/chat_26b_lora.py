"""LoRA of rank 8 on the released 26B-A4B, on one's own conversations.

    python -m train.main --config=configs/chat_26b_lora.py --workdir=runs/chat_26b_lora \
        --config.init=DIR --config.data.path=FILE.jsonl

DIR is the checkpoint's folder; its tokenizer and chat template are used. A line of the file has
"messages", the last of which is the assistant's answer that is learned, or "prompt" and "response";
see data/text/conversations.py. Longer conversations need more data.prompt_length and
loss.num_canvases; the run says what the file needs before it loads anything. The recipe is that of
Google's own LoRA config.
"""

import ml_collections

from configs import sudoku_26b_lora


def get_config() -> ml_collections.ConfigDict:
    config = sudoku_26b_lora.get_config()
    config.steps = 2000
    config.data = {"task": "conversations", "prompt_length": 1024, "path": ""}
    config.loss.update(num_canvases=4, encoder_targets="answer")
    config.optimizer.update(peak_lr=1.5e-4, end_lr=1.5e-5, warmup=100)
    config.eval.update(every=250, num=32, batch_size=2)
    return config
