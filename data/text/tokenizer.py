"""Turns text into token ids and back, with any tokenizer.json: ours or the released one."""

import functools
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tokenizers

from data.text.marked_text import MarkedText, token_pattern
from files.text_file import read_text
from files.whole_file import write_file

DEFAULT_PATH = Path(__file__).parents[1] / "assets" / "tokenizer.json"
STOP_TOKENS = ("<eos>", "<turn|>", "<|tool_response>")  # each of them ends a generation
# The tokens that chat templates and this project give a meaning to. A text of the user must not
# become one of them, even if a tokenizer.json does not call them special.
CONTROL_TOKENS = frozenset(
    form.format(name)
    for name in ("turn", "think", "channel", "tool", "tool_call", "tool_response", "image", "audio")
    for form in ("<|{}>", "<{}|>", "<|{}|>")
) | {"<pad>", "<bos>", "<eos>", '<|"|>', "<|video|>"}
CACHE_SIZE = 2**16  # words
MOST_BYTES = 200_000_000  # of a tokenizer.json; the released one has 32 MB
# `surely_exceeds` looks at texts of more characters than these, and than so many for each token.
PIECE, CHARACTERS_OF_A_TOKEN = 2**16, 8
CUT = 64  # tokens that a cut in a text may add, and more
_BYTE = re.compile(r"<0x([0-9A-F]{2})>")  # a token that stands for one byte


class Tokenizer:
    """A tokenizer.json with the ids of its special tokens.

    Attributes:
      vocab_size: the number of ids, special tokens included; ids without a token count too.
      pad_id, eos_id, bos_id: ids of <pad>, <eos>, <bos>.
      turn_start_id, turn_end_id: ids of <|turn> and <turn|>.
      stop_ids: ids of STOP_TOKENS.
      special_pattern: finds the special tokens in a text.
    """

    def __init__(self, backend: tokenizers.Tokenizer):
        self._backend = backend
        # Programs that train leave settings here that would cut prompts or fill them up.
        backend.no_truncation()
        backend.no_padding()
        # If a space can only begin a token, the words of a text can be encoded one by one. Most of
        # our texts are digits, so encoding is many times faster with the words kept in a cache. The
        # released vocabulary has tokens of several spaces, so its texts are encoded as a whole. So
        # are those of tokenizers that put a space before every text. The probe detects these.
        probe, vocab = ["Solve", " it:\n5", " ", " a"], backend.get_vocab()
        self._by_word = not any("▁" in token[1:] or " " in token for token in vocab) and (
            self._backend_encode("".join(probe))
            == [i for piece in probe for i in self._backend_encode(piece)]
        )
        self._cache: dict[str, list[int]] = {}
        self.vocab_size = 1 + max(backend.get_vocab(with_added_tokens=True).values(), default=-1)
        self._special = {
            index: token.content
            for index, token in backend.get_added_tokens_decoder().items()
            if token.special or token.content in CONTROL_TOKENS
        }
        self._ids_of_special = {content: index for index, content in self._special.items()}
        self.special_pattern = token_pattern(self._special.values())
        # <unk> means nothing to a model, and any rare character may become it.
        self._special_ids = {i for i, content in self._special.items() if content != "<unk>"}
        self.pad_id = self.token_id("<pad>")
        self.eos_id = self.token_id("<eos>")
        self.bos_id = self.token_id("<bos>")
        self.turn_start_id = self.token_id("<|turn>")
        self.turn_end_id = self.token_id("<turn|>")
        self.stop_ids = tuple(map(self.token_id, STOP_TOKENS))

    @classmethod
    def load(cls, path: str | Path = DEFAULT_PATH) -> "Tokenizer":
        """Reads a tokenizer.json.

        Args:
          path: the file, or the folder that contains it.

        Raises:
          FileNotFoundError: there is no such file.
          ValueError: the file is not a tokenizer, or its vocabulary lacks a special token.
        """
        file = Path(path)
        if file.is_dir():
            file = file / "tokenizer.json"
        if not file.is_file():
            raise FileNotFoundError(f"no tokenizer at {file}: give a tokenizer.json or its folder")
        text = read_text(file, MOST_BYTES)
        try:
            # The bindings raise a plain Exception for every fault of the file.
            backend = tokenizers.Tokenizer.from_str(text)
        except Exception as error:
            raise ValueError(f"{file} is not a tokenizer.json: {error}") from None
        return cls(backend)

    def save(self, folder: str | Path) -> None:
        """Writes folder/tokenizer.json, whole or not at all; raises OSError if it cannot."""
        write_file(Path(folder) / "tokenizer.json", self._backend.to_str(pretty=True).encode())

    @property
    def special_tokens(self) -> tuple[str, ...]:
        """The texts of the special tokens."""
        return tuple(self._special.values())

    def special_token(self, index: int) -> str:
        """The text of a special token. Raises ValueError if the id is not one."""
        if index not in self._special_ids:
            raise ValueError(f"the tokenizer has no special token {index}")
        return self._special[index]

    def token_id(self, token: str) -> int:
        """The id of the token with this text. Raises ValueError if the vocabulary lacks it."""
        index = self._backend.token_to_id(token)
        if index is None:
            raise ValueError(f"the tokenizer has no token {token}")
        return index

    def encode(self, text: str | MarkedText) -> list[int]:
        """The ids of a text. No special tokens are added.

        Args:
          text: in a string, every special token is recognised. In a MarkedText, such as a prompt,
            only those with an effect are. Other mentions of a special token are plain text.
        """
        if isinstance(text, MarkedText):
            return self._encode_marked(text)
        if not self._by_word:
            return self._backend_encode(text)
        ids = []
        first, *rest = text.split(" ")
        ids.extend(self._cached(first))
        for word in rest:
            ids.extend(self._cached(" " + word))
        return ids

    def surely_exceeds(self, text: str | MarkedText, most: int) -> bool:
        """Whether a text has more than `most` tokens, if that is sure without encoding all of it.

        Some tokenizers take minutes and GBs for a text of some MB. So pieces of a long text are
        encoded until there are enough tokens. Encode texts that are not so long to see.
        """
        text = text if isinstance(text, str) else text.text
        if len(text) <= PIECE + CHARACTERS_OF_A_TOKEN * most:
            return False
        count = 0
        for start in range(0, len(text), PIECE):
            count += len(self._backend_encode(text[start : start + PIECE])) - CUT
            if count > most:
                return True
        return False

    def special_tokens_in(self, text: str) -> list[str]:
        """The special tokens that encode() recognises in the text, in order, each of them once.

        <unk> is not counted. It means nothing to a model, and any rare character may become it.
        """
        found = dict.fromkeys(i for i in self.encode(text) if i in self._special_ids)
        return [self._backend.id_to_token(i) for i in found]

    def _encode_marked(self, marked: MarkedText) -> list[int]:
        text, ids = marked.text, self.encode(marked.text)
        if marked.special is None:
            return ids
        places = [p for p in marked.special if text[slice(*p)] in self._ids_of_special]
        wanted = [self._ids_of_special[text[slice(*p)]] for p in places]
        # Nearly always the text holds no other special token, and one pass is enough.
        is_special = self._special_ids.__contains__
        if text.count("<unk>") == sum(self._special[i] == "<unk>" for i in wanted) and (
            list(filter(is_special, ids)) == list(filter(is_special, wanted))
        ):
            return ids
        ids, last = [], 0
        for (start, end), index in zip(places, wanted, strict=True):
            ids += [*self._encode_plain(text[last:start]), index]
            last = end
        return ids + self._encode_plain(text[last:])

    def _encode_plain(self, text: str) -> list[int]:
        """The ids of a text in which every special token is plain text."""
        found = self._plain_backend.encode(text, add_special_tokens=False)
        for index, (start, end) in zip(found.ids, found.offsets, strict=True):
            content = self._special.get(index)
            if index in self._special_ids or (content and text[start:end] == content):
                # The vocabulary itself holds the token, and `ignore_merges` looks up whole pieces.
                if end - start < 2:
                    raise ValueError(f"the tokenizer cannot write {content} as plain text")
                middle = start + 1
                return self._encode_plain(text[:middle]) + self._encode_plain(text[middle:])
        return found.ids

    @functools.cached_property
    def _plain_backend(self) -> tokenizers.Tokenizer:
        """The same tokenizer, which takes special tokens for plain text."""
        backend = self._backend
        plain = tokenizers.Tokenizer(backend.model)  # shared and not copied
        plain.normalizer, plain.pre_tokenizer = backend.normalizer, backend.pre_tokenizer
        # In the order of ids, because tokens outside of the model's vocabulary are counted on.
        for index, token in sorted(backend.get_added_tokens_decoder().items()):
            (plain.add_special_tokens if index in self._special else plain.add_tokens)([token])
        plain.encode_special_tokens = True
        return plain

    @functools.cached_property
    def token_bytes(self) -> list[bytes | None]:
        """The UTF-8 bytes of each id's part of a text; None for special tokens and unused ids.

        Raises:
          ValueError: tokens do not stand for the same text wherever they are.
        """
        found: list[bytes | None] = [None] * self.vocab_size
        for token, index in self._backend.get_vocab(with_added_tokens=True).items():
            if index in self._special or index >= len(found):
                continue
            byte = _BYTE.fullmatch(token)
            found[index] = bytes([int(byte[1], 16)]) if byte else token.replace("▁", " ").encode()
        # Every 97th of the tokens that are characters must give its text, a space at the beginning
        # too.
        probe = [i for i, text in enumerate(found) if text and text.decode(errors="ignore")]
        probe = sorted(probe, key=lambda i: not found[i].startswith(b" "))[::97]
        if self.decode(probe) != b"".join(found[i] for i in probe).decode():
            raise ValueError(
                "a constraint cannot be used with this tokenizer: the text of a token depends on "
                "the tokens before it"
            )
        return found

    def _backend_encode(self, text: str) -> list[int]:
        return self._backend.encode(text, add_special_tokens=False).ids

    def _cached(self, piece: str) -> list[int]:
        """The ids of a word, with the space before it if it has one."""
        ids = self._cache.get(piece)
        if ids is None:
            ids = self._backend_encode(piece)
            if len(self._cache) < CACHE_SIZE:
                self._cache[piece] = ids
        return ids

    def decode(self, ids: Sequence[int] | np.ndarray, skip_special: bool = True) -> str:
        """The text of ids.

        Decoding gives back the text that was encoded. Only "▁" comes back as a space.

        Args:
          ids: a sequence of integers, or an integer array [T].
          skip_special: whether to leave special tokens out of the text.
        """
        return self._backend.decode([int(i) for i in ids], skip_special_tokens=skip_special)

    def plain_text(self, ids: Sequence[int]) -> str:
        """The text of ids without special tokens, also those that tokenizer.json calls plain."""
        return self.decode([i for i in ids if i not in self._special_ids], skip_special=False)

    def decode_marked(self, ids: Sequence[int] | np.ndarray) -> MarkedText:
        """The text of ids, and the places of the special tokens in it.

        Args:
          ids: a sequence of integers, or an integer array [T].

        Returns:
          the text with its special tokens. Text that the model wrote in pieces is plain text, even
          if it looks like a special token.
        """
        ids = [int(i) for i in ids]
        text, places, run = "", [], []
        for i in [*ids, None]:
            if i is not None and i not in self._special_ids:
                run.append(i)
                continue
            text, run = text + self.decode(run, skip_special=False), []
            if i is not None:
                places.append((len(text), len(text) + len(self._special[i])))
                text += self._special[i]
        whole = self.decode(ids, skip_special=False)
        # Some decoders treat the beginning of a text in a way of their own.
        return MarkedText(text, tuple(places)) if text == whole else MarkedText(whole, None)
