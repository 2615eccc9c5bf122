"""Turns text into token ids and back, with any tokenizer.json: ours or the released one."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tokenizers

DEFAULT_PATH = Path(__file__).parents[1] / "assets" / "tokenizer.json"
STOP_TOKENS = ("<eos>", "<turn|>", "<|tool_response>")  # each of them ends a generation
CACHE_SIZE = 2**16  # words


class Tokenizer:
    """A tokenizer.json with the ids of its special tokens.

    Attributes:
      vocab_size: the number of ids, special tokens included.
      pad_id, eos_id, bos_id: ids of <pad>, <eos>, <bos>.
      turn_start_id, turn_end_id: ids of <|turn> and <turn|>.
      stop_ids: ids of STOP_TOKENS.
    """

    def __init__(self, backend: tokenizers.Tokenizer):
        self._backend = backend
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
        self.vocab_size = backend.get_vocab_size(with_added_tokens=True)
        added = backend.get_added_tokens_decoder().items()
        self._special_ids = {i for i, t in added if t.special and t.content != "<unk>"}
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
        try:
            # The bindings raise a plain Exception for every fault of the file.
            backend = tokenizers.Tokenizer.from_file(str(file))
        except Exception as error:
            raise ValueError(f"{file} is not a tokenizer.json: {error}") from None
        return cls(backend)

    def save(self, folder: str | Path) -> None:
        """Writes folder/tokenizer.json."""
        self._backend.save(str(Path(folder) / "tokenizer.json"))

    def token_id(self, token: str) -> int:
        """The id of the token with this text. Raises ValueError if the vocabulary lacks it."""
        index = self._backend.token_to_id(token)
        if index is None:
            raise ValueError(f"the tokenizer has no token {token}")
        return index

    def encode(self, text: str) -> list[int]:
        """The ids of a text. Special tokens in the text are recognised, and none are added."""
        if not self._by_word:
            return self._backend_encode(text)
        ids = []
        first, *rest = text.split(" ")
        ids.extend(self._cached(first))
        for word in rest:
            ids.extend(self._cached(" " + word))
        return ids

    def special_tokens_in(self, text: str) -> list[str]:
        """The special tokens that encode() recognises in the text, in order, each of them once.

        <unk> is not counted. It means nothing to a model, and any rare character may become it.
        """
        found = dict.fromkeys(i for i in self.encode(text) if i in self._special_ids)
        return [self._backend.id_to_token(i) for i in found]

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
