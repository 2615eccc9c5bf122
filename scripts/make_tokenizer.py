"""Builds data/assets/tokenizer.json, the vocabulary of 1,024 tokens for the small models.

    python -m scripts.make_tokenizer

It is laid out as the released tokenizer is: BPE with byte fallback, "▁" for a space, and the same
special ids. So the same code reads both. The ids are part of every trained checkpoint. A word that
is added here, or to the word tasks of data/tasks/base_mixture.py, moves them.

A word is one token, and no chain of merges makes it. Words and digits are split off beforehand, and
`ignore_merges` looks up a whole piece first. Each digit is a piece of its own, so digits never
merge.
"""

import json
from pathlib import Path
from typing import Any

from data.tasks.base_mixture import WORDS
from files.whole_file import write_file

VOCAB_SIZE = 1024
PATH = Path(__file__).parent.parent / "data" / "assets" / "tokenizer.json"

# Special tokens, with the ids that the released vocabulary gives them.
SPECIAL = {
    "<pad>": 0,
    "<eos>": 1,
    "<bos>": 2,
    "<unk>": 3,
    "<|tool_response>": 50,
    "<|think|>": 98,
    "<|channel>": 100,
    "<channel|>": 101,
    "<|turn>": 105,
    "<turn|>": 106,
}

# Special tokens that stand around and for images. They have the places of three bytes that no UTF-8
# text has, so that no other id moves.
IMAGES = {"<|image>": "<0xFD>", "<|image|>": "<0xFE>", "<image|>": "<0xFF>"}

# Words that begin a line. Other words occur there too.
LINE_WORDS = (
    "user model system thought Solve Fill Least Greatest For Complete Each Mark Count How Keep "
    "Where Show Put Place Swap Read Write Sort Shift Move Copy Transpose Rotate Turn Mirror Add "
    "Reverse Which What The Is A In If Find Check Explain Give List Change Make Say"
)

# Words that follow a space. At the start of a line they take more than one token.
INNER_WORDS = (
    "the a an and or of in on to by with from for at as is are was be been it its this that these "
    "those every each all any some none no not only once again same other than more less most "
    "sudoku puzzle grid board cell cells empty full digit digits number numbers row rows column "
    "columns box boxes line word words letter letters missing least greatest greater smaller "
    "lack lacks hold holds can could may must will would should has have had do does did done "
    "complete order fill count mark repeated occurs many how what where which when who why there "
    "here put place keep swap shift move copy transpose rotate turn turns quarter half mirror "
    "left right up down upside around read write sort add sum reverse show end start first "
    "last next before after between into out over under above below then so but if because one "
    "two three four five six seven eight nine ten zero answer question step steps solve solved "
    "solution given find found check error true false yes new old good bad big small long short "
    "high low fast slow time way work world life people man woman think know see say said make "
    "made take come go get give use used like need want look very well also just now today about "
    "we you he she they I me him her them my your his our their candidates position value"
)

# The rest of the vocabulary: pairs of letters for other words, the most frequent pairs first.
PAIRS = (
    "th he in er an re on at en nd ti es or te of ed is it al ar st to nt ng se ha as ou io le ve "
    "co me de hi ri ro ic ne ea ra ce li ch ll be ma si om ur ca el ta la ns di fo ho pe ec pr no "
    "ct us ac ot il tr ly nc et ut ss so rs un lo wa ge ie wh ee wi em ad ol rt po we na ul ni ts "
    "mo ow pa im mi ai sh ir su id os iv ia am fi ci vi pl ig tu ev ld ry mp fe bl ab gh ty op wo "
    "sa ay ex ke fr oo av ag if ap gr od bo sp rd do uc bu ei ov by rm ep tt oc fa ef cu rn sc gi "
    "da yo cr cl du ga qu ue ff ba ey ls va um pp ua up lu go ht ru ug ds lt pi rc rr eg au ck ew "
    "mu br bi pt ak pu ui rg ib tl ny ki rk ys ob mm fu ph og ms ye ud mb ip ub oi rl gu dr hr cc"
)


def vocabulary() -> dict[str, int]:
    """The ids of exactly VOCAB_SIZE tokens.

    Returns:
      token -> id, in the order of ids.

    Raises:
      ValueError: there are too few pairs to fill the vocabulary, or too many words.
    """
    tokens = [f"<0x{byte:02X}>" for byte in range(256)]
    tokens += ["\n", "▁", *map(chr, range(33, 127))]
    tokens += [f"▁{digit}" for digit in range(10)]
    tokens += LINE_WORDS.split()
    tokens += [f"▁{word}" for word in INNER_WORDS.split()]
    # The word tasks copy these words, also to the start of a line.
    tokens += [form for word in WORDS for form in (word, f"▁{word}")]
    tokens = [t for t in dict.fromkeys(tokens) if t not in SPECIAL]
    for pair in PAIRS.split():
        if len(tokens) + len(SPECIAL) == VOCAB_SIZE:
            break
        if pair not in tokens:
            tokens.append(pair)
    if len(tokens) + len(SPECIAL) != VOCAB_SIZE:
        raise ValueError(f"{len(tokens) + len(SPECIAL)} tokens, not {VOCAB_SIZE}")
    free = (i for i in range(VOCAB_SIZE) if i not in set(SPECIAL.values()))
    ids = {**SPECIAL, **dict(zip(tokens, free, strict=False))}
    ids |= {token: ids.pop(byte) for token, byte in IMAGES.items()}
    return dict(sorted(ids.items(), key=lambda item: item[1]))


def build() -> dict[str, Any]:
    """The contents of tokenizer.json, in the layout of Hugging Face's `tokenizers`."""
    vocab = vocabulary()
    pairs = [pair for pair in PAIRS.split() if pair in vocab]
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {
                "id": index,
                "content": token,
                "single_word": False,
                "lstrip": False,
                "rstrip": False,
                "normalized": False,
                "special": True,
            }
            for token, index in vocab.items()
            if token in SPECIAL or token in IMAGES
        ],
        "normalizer": {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
        "pre_tokenizer": {
            "type": "Split",
            "pattern": {"Regex": "▁?[A-Za-z]+|▁?[0-9]"},
            "behavior": "Isolated",
            "invert": False,
        },
        "post_processor": None,
        "decoder": {
            "type": "Sequence",
            "decoders": [
                {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
                {"type": "ByteFallback"},
                {"type": "Fuse"},
            ],
        },
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": "<unk>",
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": True,
            "byte_fallback": True,
            "ignore_merges": True,
            "vocab": vocab,
            "merges": [list(pair) for pair in pairs],
        },
    }


def main() -> None:
    """Writes the file."""
    write_file(PATH, (json.dumps(build(), ensure_ascii=False, indent=1) + "\n").encode())


if __name__ == "__main__":
    main()
