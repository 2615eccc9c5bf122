"""Random conversations whose texts are made of pieces of special tokens."""

import random
from typing import Any

from data.text.chat_template import ChatTemplate

PIECES = [
    *("<pad>", "<eos>", "<bos>", "<unk>", "<|turn>", "<turn|>", "<|think|>", "<|channel>"),
    *("<channel|>", "<|tool_call>", "<tool_call|>", "<|tool_response>", "<tool_response|>"),
    *('<|"|>', "<|tool>", "<", "<|", "|>", ">", "pad", "turn", "|", '"', "tool_", "call", "t"),
    *(
        "\n",
        "\n\n",
        "  ",
        " ",
        "\t",
        "a",
        "model\n",
        "é",
        "中",
        "\ue000",
        "\ufffe",
        "{",
        "}",
        ":",
        ",",
    ),
]
HARMLESS = str.maketrans("<>|", "(]!")


def text(rng: random.Random) -> str:
    """A text of pieces, which is not blank."""
    return "x" * (rng.random() < 0.5) + "".join(rng.choices(PIECES, k=rng.randrange(1, 9))) + "y"


def value(rng: random.Random, depth: int = 2) -> Any:
    """A JSON value. Its texts are made of pieces."""
    kinds = [lambda: text(rng), lambda: text(rng), lambda: rng.choice([1, -2.5, True, None])]
    if depth:
        kinds.append(lambda: {text(rng): value(rng, depth - 1) for _ in range(rng.randrange(3))})
        kinds.append(lambda: [value(rng, depth - 1) for _ in range(rng.randrange(3))])
    return rng.choice(kinds)()


def conversation(rng: random.Random, tools: bool) -> tuple[list[dict], list[dict] | None]:
    """Messages and tools, with mentions of special tokens in every text."""
    messages = [{"role": "system", "content": text(rng)}] if rng.random() < 0.5 else []
    for _ in range(rng.randrange(1, 3)):
        messages.append({"role": "user", "content": text(rng)})
        answer = {"role": "assistant", "content": text(rng)}
        if rng.random() < 0.3:
            answer["reasoning"] = text(rng)
        if tools and rng.random() < 0.5:
            call = {"name": text(rng), "arguments": {text(rng): value(rng)}}
            messages.append({**answer, "tool_calls": [{"function": call}]})
            messages.append({"role": "tool", "name": text(rng), "content": text(rng)})
        messages.append(answer)
    if not tools:
        return messages, None
    return messages, [{"function": {"name": text(rng), "description": text(rng)}}]


def harmless(part: Any) -> Any:
    """The same without special tokens, character by character."""
    if isinstance(part, str):
        return part.translate(HARMLESS)
    if isinstance(part, dict):
        return {harmless(key): harmless(item) for key, item in part.items()}
    return [harmless(item) for item in part] if isinstance(part, list) else part


def check_mentions(
    template: ChatTemplate, messages: list[dict], tools: list[dict] | None, thinking: bool
) -> None:
    """Checks that special tokens in messages have no effect, in a prompt and in an example.

    The special tokens of the ids must be those of a conversation with harmless texts, and the ids
    must be the ids of the text.
    """
    tok = template.tokenizer
    added = tok._backend.get_added_tokens_decoder().items()
    special = {index for index, token in added if token.special}

    def effects(messages: list[dict], tools: list[dict] | None) -> list[list[int]]:
        prompt = template.render(messages[:-1], tools=tools, thinking=thinking)
        texts = [prompt, *template.example(messages, tools)]
        ids = [tok.encode(text) for text in texts]
        for text, found in zip(texts, ids, strict=True):
            assert tok.decode(found, skip_special=False) == text.text
            assert tok.decode_marked(found) == text
        return [[i for i in found if i in special] for found in ids]

    assert effects(messages, tools) == effects(harmless(messages), harmless(tools))
