"""LoRA of rank 8 on the released 26B-A4B, on one's own conversations.

    python -m train.main --config=configs/chat_26b_lora.py --workdir=runs/chat_26b_lora \
        --config.init=DIR --config.data.path=FILE.jsonl

DIR is the checkpoint's folder, whose tokenizer and chat template are used. A line of the file has
"messages", the last one the assistant's answer that is learned, or "prompt" and "response"; see
data/text/conversations.py. Longer ones need more data.prompt_length and loss.num_canvases: what the
file needs is said before anything is loaded. The recipe is that of Google's own LoRA config.
"""

import ml_collections

from configs import sudoku_26b_lora


def get_config() -> ml_collections.ConfigDict:
    config = sudoku_26b_lora.get_config()
    config.steps = 2000
    config.data.update(kind="chat", prompt_length=1024)
    config.loss.update(num_canvases=4, encoder_targets="answer")
    config.optimizer.update(peak_lr=1.5e-4, end_lr=1.5e-5, warmup=100)
    config.eval.update(every=250, num=32, batch_size=2)
    return config
