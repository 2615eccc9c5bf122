"""A tokenizer of characters with the tokens of images, a template, and messages with images."""

import functools
import string

import tokenizers
from tokenizers import AddedToken, Regex, decoders, models, pre_tokenizers

from data.text.tokenizer import Tokenizer

SPECIAL = {
    **{"<pad>": 0, "<eos>": 1, "<bos>": 2, "<unk>": 3, "<|turn>": 4, "<turn|>": 5},
    **{"<|tool_response>": 6, "<|think|>": 7, "<|image>": 8, "<|image|>": 9, "<image|>": 10},
    **{"<|video|>": 11, "<|audio>": 12, "<|audio|>": 13, "<audio|>": 14},
}
# It writes parts as the released one does: texts are trimmed, and an image is one token.
TEMPLATE = """\
{{- bos_token -}}
{%- for message in messages -%}
{{ '<|turn>' + ('model' if message.role == 'assistant' else message.role) + '\\n' }}
{%- if message.content is string -%} {{ message.content | trim }}
{%- else -%}
{%- for part in message.content -%}
{%- if part.type == 'text' -%} {{ part.text | trim }}
{%- elif part.type == 'image' -%} {{ '<|image|>' }}
{%- elif part.type == 'video' -%} {{ '<|video|>' }}
{%- endif -%}
{%- endfor -%}
{%- endif -%}
{{ '<turn|>\\n' }}
{%- endfor -%}
{{ '<|turn>model\\n' if add_generation_prompt }}
"""


@functools.cache
def backend() -> tokenizers.Tokenizer:
    """The tokenizer as the library knows it."""
    words = [*string.printable, *(f"{n:02d}" for n in range(100))]
    vocab = SPECIAL | {word: len(SPECIAL) + i for i, word in enumerate(words)}
    found = tokenizers.Tokenizer(models.WordLevel(vocab, unk_token="<unk>"))
    found.pre_tokenizer = pre_tokenizers.Split(Regex(r"\d\d|[\s\S]"), "isolated")
    found.decoder = decoders.Fuse()
    found.add_special_tokens([AddedToken(t, normalized=False, special=True) for t in SPECIAL])
    return found


def tokenizer() -> Tokenizer:
    return Tokenizer(tokenizers.Tokenizer.from_str(backend().to_str()))


def shown(number: int) -> dict[str, str]:
    """The part for a picture of tests/data/images/pictures.py, by its number."""
    return {"type": "image", "image": str(number)}


def said(text: str) -> dict[str, str]:
    return {"type": "text", "text": text}


# The times of frames of a video, which are all the first picture, in seconds.
TIMES = (0, 1, 59, 60, 61.5, 3599)
VIDEO = [{"role": "user", "content": [said("What happens?"), {"type": "video", "video": "0"}]}]
# Conversations, with the numbers of pictures in the place of paths.
TALKS = (
    [{"role": "user", "content": [shown(0), said(" What is it? ")]}],
    [{"role": "user", "content": [said("Compare "), shown(1), said("with"), shown(4), shown(2)]}],
    [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [shown(3), said("What does it mean?")]},
        {"role": "assistant", "content": "A picture."},
        {"role": "user", "content": [said("And this? 12"), shown(5)]},
    ],
)
