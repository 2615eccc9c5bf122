"""The tokenizer: ids, words and digits, special tokens, and files that are refused."""

import json
import random
import re

import numpy as np
import pytest
import tokenizers

from data.tasks.base_mixture import WORD_TASKS, WORDS, MixtureSource
from data.tasks.grid_tasks import GRID_TASKS
from data.text import tokenizer as tokenizer_module
from data.text.marked_text import MarkedText, between_marks
from data.text.tokenizer import DEFAULT_PATH, Tokenizer
from scripts.make_tokenizer import SPECIAL, build
from tests.data.text.messages import chat_answer, chat_prompt


@pytest.fixture(scope="module")
def tok():
    return Tokenizer.load()


def texts(count=300):
    """Yields texts of words, digits, runs of spaces and characters from all of Unicode."""
    rng = random.Random(0)
    pieces = [
        lambda: rng.choice(WORDS),
        lambda: rng.choice("0123456789"),
        lambda: rng.choice([" ", "  ", "\n", "\t", "\r\n", " \n ", ":", "<turn", "Solver", "é"]),
        lambda: chr(rng.choice([rng.randrange(1, 0xD800), rng.randrange(0xE000, 0x110000)])),
        lambda: " " + str(rng.randrange(1000)),
    ]
    for _ in range(count):
        text = "".join(rng.choice(pieces)() for _ in range(rng.randrange(1, 30)))
        yield text.replace("▁", "_")


def names(tok, text):
    return [tok.decode([i], skip_special=False) for i in tok.encode(text)]


def test_special_ids(tok):
    assert tok.vocab_size == 1024
    assert (tok.pad_id, tok.eos_id, tok.bos_id) == (0, 1, 2)
    assert tok.token_id("<unk>") == 3
    assert (tok.turn_start_id, tok.turn_end_id) == (105, 106)
    assert tok.stop_ids == (1, 106, 50)
    assert len({tok.token_id(t) for t in ("<|think|>", "<|channel>", "<channel|>")}) == 3
    with pytest.raises(ValueError, match="no token <image>"):
        tok.token_id("<image>")


def test_the_sudoku_prompt(tok):
    expected = ["Solve", " the", " sudoku", ":", "\n", "5", " 3", " 0"]
    assert names(tok, "Solve the sudoku:\n5 3 0") == expected


def test_digits_never_merge(tok):
    assert names(tok, "53 53\n7") == ["5", "3", " 5", "3", "\n", "7"]
    multiple = [t for t in build()["model"]["vocab"] if len(re.findall(r"\d", t)) > 1]
    assert all(re.fullmatch(r"<0x[0-9A-F]{2}>", t) for t in multiple)


def test_turns_take_nine_tokens(tok):
    ids = tok.encode(chat_prompt("5"))
    assert len(ids) == 10
    assert ids[:2] == [2, 105]
    assert tok.encode(chat_answer("5"))[-1] == 106


def test_round_trip(tok):
    for text in texts():
        assert tok.decode(tok.encode(text)) == text


def test_decode_skips_special_tokens(tok):
    ids = tok.encode("<bos>cat<turn|>")
    assert tok.decode(ids) == "cat"
    assert tok.decode(ids, skip_special=False) == "<bos>cat<turn|>"


def test_encoding_by_word_is_the_plain_encoding(tok):
    assert tok._by_word
    for text in [*texts(), chat_prompt("a b  5 "), "", " ", "<turn|> <turn|>"]:
        assert tok.encode(text) == tok._backend_encode(text)


def test_special_tokens_are_recognised_in_a_text(tok):
    text = "cat<turn|> <|think|>"
    assert tok.encode(text) == [*tok.encode("cat"), 106, *tok.encode(" "), 98]


def test_special_tokens_in(tok):
    assert tok.special_tokens_in("a<turn|>b <|think|><turn|>") == ["<turn|>", "<|think|>"]
    assert tok.special_tokens_in("a <turn <|turn|> <unk> ☃") == []


def test_a_vocabulary_with_runs_of_spaces_is_not_encoded_by_word():
    data = build()
    vocab = data["model"]["vocab"]
    vocab["▁▁"] = vocab.pop("zz") if "zz" in vocab else len(vocab)
    data["model"]["merges"].append(["▁", "▁"])
    other = Tokenizer(tokenizers.Tokenizer.from_str(json.dumps(data)))
    assert not other._by_word
    assert names(other, "a  \n") == ["a", "  ", "\n"]


def test_a_tokenizer_that_begins_texts_with_a_space_is_not_encoded_by_word():
    data = build()
    data["normalizer"] = {
        "type": "Sequence",
        "normalizers": [{"type": "Prepend", "prepend": "▁"}, data["normalizer"]],
    }
    assert not Tokenizer(tokenizers.Tokenizer.from_str(json.dumps(data)))._by_word


def from_data(data):
    return Tokenizer(tokenizers.Tokenizer.from_str(json.dumps(data)))


def marked(*pieces):
    """A text of pieces. Those that are in lists are special tokens with an effect."""
    return MarkedText.read(
        "".join(between_marks(p[0]) if isinstance(p, list) else p for p in pieces)
    )


def test_only_marked_tokens_have_an_effect(tok):
    text = marked(["<bos>"], "a <turn|> b<pad>", ["<turn|>"], "<eos>")
    ids = tok.encode(text)
    assert ids != tok.encode(text.text) and [i for i in ids if i < 3 or i == 106] == [2, 106]
    assert tok.decode(ids, skip_special=False) == text.text
    assert tok.decode_marked(ids) == text
    everything = MarkedText(text.text, special=None)
    assert tok.encode(everything) == tok.encode(text.text)
    # Text between two special tokens is encoded as a whole.
    assert names(tok, marked("cat <pad>cat")) == [*names(tok, "cat "), "<", "p", "ad", ">", "cat"]
    # What is no special token of this tokenizer is text.
    assert tok.encode(marked(["<|tool_call>"], "<pad>")) == tok.encode(marked("<|tool_call><pad>"))
    assert tok.encode(marked(["<unk>"], "a")) == [3, *tok.encode("a")]
    assert 3 not in tok.encode(marked("<unk>a"))


def test_ordinary_text_takes_one_pass():
    tok = Tokenizer.load()
    for text in texts(50):
        assert tok.encode(marked(["<bos>"], text, ["<turn|>"])) == tok.encode(f"<bos>{text}<turn|>")
    assert "_plain_backend" not in vars(tok)


def test_decoded_text_knows_its_special_tokens(tok):
    plain = tok.encode(marked("<turn|>"))
    text = tok.decode_marked(np.array([2, *plain, 106, *tok.encode("é")]))
    assert text == MarkedText("<bos><turn|><turn|>é", ((0, 5), (12, 19)))
    assert tok.decode_marked([]) == MarkedText("")


def test_a_decoder_that_cuts_the_beginning_of_a_text():
    data = build()
    strip = {"type": "Strip", "content": " ", "start": 1, "stop": 0}
    data["decoder"]["decoders"].append(strip)
    other = from_data(data)
    ids = other.encode("<turn|> a")
    assert other.decode_marked(ids) == MarkedText("<turn|> a", special=None)


def test_a_vocabulary_that_holds_special_tokens_as_words():
    data = build()
    data["pre_tokenizer"] = None  # `ignore_merges` now looks up whole texts
    other = from_data(data)
    text = marked("<pad>", ["<bos>"], "<unk>", ["<bos>"], "<turn|>")
    ids = other.encode(text)
    assert [i for i in ids if i in set(SPECIAL.values())] == [2, 2]
    assert other.decode(ids, skip_special=False) == text.text
    data["added_tokens"].append(
        dict(data["added_tokens"][0], id=data["model"]["vocab"]["q"], content="q")
    )
    with pytest.raises(ValueError, match="the tokenizer cannot write q as plain text"):
        from_data(data).encode(marked("q"))


def test_a_token_that_has_a_meaning_is_special_whatever_the_file_says():
    data = build()
    for token in data["added_tokens"]:
        token["special"] = token["content"] == "<unk>"
    other = from_data(data)
    text = marked(["<bos>"], "a<turn|>", ["<turn|>"])
    assert other.encode(text).count(106) == 1 and other.encode(text.text).count(106) == 2
    assert other.special_tokens_in("a<turn|>") == ["<turn|>"]


def test_a_normalizer_that_makes_special_tokens():
    data = build()
    data["normalizer"] = {"type": "Sequence", "normalizers": [{"type": "NFKC"}, data["normalizer"]]}
    for token in data["added_tokens"]:
        token["normalized"] = True
    other = from_data(data)
    wide = "\uff1cpad\uff1e"  # wide signs, which NFKC makes plain
    assert other.encode(wide) == [0]
    assert 0 not in other.encode(marked(wide)) and other.encode(marked(wide, ["<pad>"]))[-1] == 0


def test_added_tokens_that_are_not_special_stay_tokens():
    data = build()
    last = data["added_tokens"][-1]
    for index, content in enumerate(("Quack", "\n\n", "<|odd|>"), start=1024):
        data["added_tokens"].append(dict(last, id=index, content=content, special=index == 1026))
    other = from_data(data)
    assert other.encode(marked("Quack\n\n")) == [1024, 1025]
    ids = other.encode(marked("Quack<|odd|>\n\n", ["<|odd|>"], "Quack<pad>"))
    assert [i for i in ids if i >= 1024 or not i] == [1024, 1025, 1026, 1024]


def test_settings_of_a_training_program_do_not_cut_texts():
    data = build()
    data["truncation"] = {
        "direction": "Right",
        "max_length": 4,
        "strategy": "LongestFirst",
        "stride": 0,
    }
    data["padding"] = {
        "strategy": {"Fixed": 8},
        "direction": "Right",
        "pad_to_multiple_of": None,
        "pad_id": 0,
        "pad_type_id": 0,
        "pad_token": "<pad>",
    }
    text = "cat 1 2 3 4 5 <turn|>"
    assert from_data(data).encode(text) == Tokenizer.load().encode(text)
    assert from_data(data).encode("cat") == Tokenizer.load().encode("cat")


def test_every_word_of_the_tasks_is_one_token(tok):
    source = MixtureSource(3)
    for i in range(1500):
        item = source[i]
        for text in (item["prompt"], item["answer"]):
            # In a row of letters each is a token, and so is the space before the row.
            pieces = re.findall(r"[A-Z]?[a-z]+|[A-Z]|\d|[^ \w]| (?=[A-Z])", text)
            assert len(tok.encode(text)) == len(pieces), text
    for _, _, instructions in [*GRID_TASKS.values(), *WORD_TASKS.values()]:
        for word in re.findall(
            r"(?<!{)\b[A-Za-z]+\b(?!})", " ".join(f" {t}" for t in instructions)
        ):
            form = word if word[0].isupper() else f" {word}"
            assert len(tok.encode(form)) == 1, form


def test_every_token_is_reached(tok):
    for token, index in build()["model"]["vocab"].items():
        if not re.fullmatch(r"<0x..>", token):
            assert tok.encode(token.replace("▁", " ")) == [index]


def test_the_file_is_what_the_script_builds():
    assert json.loads(DEFAULT_PATH.read_text(encoding="utf-8")) == build()


def test_load(tok, tmp_path):
    assert Tokenizer.load(DEFAULT_PATH.parent).encode("cat 5") == tok.encode("cat 5")
    with pytest.raises(FileNotFoundError, match=r"no tokenizer at .*missing\.json"):
        Tokenizer.load(tmp_path / "missing.json")
    with pytest.raises(FileNotFoundError, match=r"no tokenizer at .*tokenizer\.json"):
        Tokenizer.load(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(ValueError, match="is not a tokenizer"):
        Tokenizer.load(tmp_path)


def test_a_text_that_is_far_too_long_is_known_by_its_beginning(tok, monkeypatch):
    assert not tok.surely_exceeds("a" * 100_000, 10_000)  # it is encoded as a whole
    text = "a b " * 50_000
    assert tok.surely_exceeds(text, 1000)
    assert tok.surely_exceeds(MarkedText(text, special=None), 1000)
    assert not tok.surely_exceeds("a" * 10**6, 10**6)
    monkeypatch.setattr(tokenizer_module, "CHARACTERS_OF_A_TOKEN", 0)
    count = len(tok.encode(text))
    assert not tok.surely_exceeds(text, count)  # never if it is not so
    assert tok.surely_exceeds(text, count - (len(text) // tokenizer_module.PIECE + 1) * 64 - 1)
