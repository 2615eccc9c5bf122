"""Packs a prompt and its answer into one row of tokens: the prompt, then whole canvases."""

from collections.abc import Sequence

import numpy as np

from data.text.parts import NOTHING, GivenTokens


class TooLong(ValueError):
    """An example that does not fit into a row.

    Attributes:
      setting: the flag of train.main whose value is too small.
      needed: the value of this setting with which the example would fit.
    """

    def __init__(self, message: str, setting: str, needed: int):
        super().__init__(message)
        self.setting, self.needed = setting, needed


def pack(
    prompt_ids: Sequence[int],
    answer_ids: Sequence[int],
    prompt_length: int,
    canvas_size: int,
    num_canvases: int,
    eos_id: int,
    pad_id: int,
    given: GivenTokens | None = None,
) -> dict[str, np.ndarray]:
    """Packs one example into a row of T = prompt_length + num_canvases * canvas_size tokens.

    The row begins with the prompt. The canvases follow without padding between them. The last
    canvas that the answer needs is filled up with eos. These eos tokens are trained on, so the
    model learns to stop. The rest of the row is pad. An empty answer takes one canvas of eos.

    Args:
      prompt_ids: the prompt, at most `prompt_length` tokens.
      answer_ids: the answer, at most `num_canvases * canvas_size` tokens.
      prompt_length: the room for the prompt, in tokens.
      canvas_size: C, the tokens of a canvas.
      num_canvases: the canvases of a row.
      eos_id, pad_id: ids of <eos> and <pad>.
      given: what is given of the answer. None if the task gives nothing of its answers.

    Returns:
      {"tokens": int32 [T], "prompt_len": int32 [], "answer_len": int32 [], "num_canvases": int32
      []}. "answer_len" is the length of the answer without the fill. "num_canvases" is the number
      of canvases that the answer uses, at least 1.
      With `given` also {"given": int32 [T], "keep": bool [T]}: the given tokens at their places in
      the row, NOTHING where nothing is given, and the positions that are kept. The eos fill is
      given and kept if the answer's last token is.

    Raises:
      TooLong: the prompt or the answer does not fit.
    """
    prompt, answer = len(prompt_ids), len(answer_ids)
    room, used = num_canvases * canvas_size, max(1, -(-answer // canvas_size))
    if prompt > prompt_length:
        message = f"prompt of {prompt} tokens does not fit prompt_length {prompt_length}"
        raise TooLong(message, "--config.data.prompt_length", prompt)
    if answer > room:
        message = (
            f"answer of {answer} tokens does not fit {num_canvases} "
            f"{'canvas' if num_canvases == 1 else 'canvases'} of {canvas_size} = {room} tokens"
        )
        raise TooLong(message, "--config.loss.num_canvases", used)
    tokens = np.full(prompt_length + room, pad_id, np.int32)
    tokens[:prompt] = prompt_ids
    tokens[prompt : prompt + answer] = answer_ids
    tokens[prompt + answer : prompt + used * canvas_size] = eos_id
    row = {
        "tokens": tokens,
        "prompt_len": np.int32(prompt),
        "answer_len": np.int32(answer),
        "num_canvases": np.int32(used),
    }
    if given is None:
        return row
    shown, keep = np.full(len(tokens), NOTHING, np.int32), np.zeros(len(tokens), bool)
    answer_end, end = prompt + answer, prompt + used * canvas_size
    shown[prompt:answer_end], keep[prompt:answer_end] = given
    if not given.keep or given.keep[-1]:
        shown[answer_end:end], keep[answer_end:end] = eos_id, True
    return row | {"given": shown, "keep": keep}
