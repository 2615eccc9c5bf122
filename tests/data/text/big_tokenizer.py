"""A tokenizer of the released one's size and layout: 262,144 tokens, made in two seconds.

It is BPE with byte fallback, and "▁" is a space. Runs of line breaks, tabs and spaces are added
tokens that are not special. Its words are pairs of characters, and pairs of these pairs.
"""

import functools
import itertools
import string

import tokenizers
from tokenizers import AddedToken, decoders, models, normalizers, pre_tokenizers

from data.text.tokenizer import Tokenizer

VOCAB_SIZE = 262_144
# The ids of the released vocabulary.
SPECIAL = {
    **{"<pad>": 0, "<eos>": 1, "<bos>": 2, "<unk>": 3, "<mask>": 4},
    **{"<|tool>": 46, "<tool|>": 47, "<|tool_call>": 48, "<tool_call|>": 49},
    **{"<|tool_response>": 50, "<tool_response|>": 51, '<|"|>': 52, "<|think|>": 98},
    **{"<|channel>": 100, "<channel|>": 101, "<|turn>": 105, "<turn|>": 106},
}
RUNS = [c * n for c in ("\n", "\t", "▁") for n in range(2, 32)]


@functools.cache
def big_tokenizer() -> Tokenizer:
    """The tokenizer; made once."""
    characters = [*string.ascii_letters, *string.punctuation, *string.digits, "▁", "é"]
    bytes_ = [f"<0x{byte:02X}>" for byte in range(256)]
    tokens = dict.fromkeys([*bytes_, "\n", "\t", *characters, *RUNS])
    merges = []
    # All pairs of characters, then pairs of pairs, until the vocabulary is full.
    pairs = [a + b for a, b in itertools.product(characters, repeat=2)]
    for left, right in itertools.chain(
        itertools.product(characters, repeat=2), itertools.product(pairs, repeat=2)
    ):
        if len(tokens) + len(SPECIAL) == VOCAB_SIZE:
            break
        if left + right not in tokens:
            tokens[left + right] = None
            merges.append((left, right))
    free = (i for i in range(VOCAB_SIZE) if i not in SPECIAL.values())
    vocab = SPECIAL | dict(zip(tokens, free, strict=True))
    backend = tokenizers.Tokenizer(
        models.BPE(vocab, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    )
    backend.normalizer = normalizers.Replace(" ", "▁")
    backend.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    backend.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    backend.add_special_tokens([AddedToken(t, normalized=False, special=True) for t in SPECIAL])
    backend.add_tokens([AddedToken(run, normalized=False) for run in RUNS])
    return Tokenizer(backend)
