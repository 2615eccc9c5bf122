"""A model, its tokenizer and its chat template: rows in, answers out."""

import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterable
from typing import Any, Literal, NamedTuple

import jax
import numpy as np

from data.text.chat import Message, ModelTurn, split_turn
from data.text.chat_template import ChatTemplate
from data.text.tokenizer import Tokenizer
from diffusiongemma import DiffusionGemma
from sample.autoregressive import AutoregressiveConfig, Continuation, generate_autoregressive
from sample.batch import pad_prompts
from sample.command.prompt_rows import Row
from sample.sampler import Generation, Snapshot, generate
from sample.split_model import SplitModel, split
from sample.statistics import Statistics
from sample.step import SamplerConfig
from sample.timing import Clock

Mode = Literal["diffusion", "ar"]


class Request(NamedTuple):
    """A row as tokens.

    Attributes:
      number: of the row.
      tokens: the prompt's.
      checksum: of all that the answer depends on, the checkpoint excepted.
    """

    number: int | None
    tokens: list[int]
    checksum: str


class Answer(NamedTuple):
    """What the model made of a request.

    Attributes:
      turn: its text, taken apart.
      steps, valid_tokens: of every canvas begun; left to right, an answer is one canvas.
      drafts: canvas by canvas and step by step {"text", "entropy" (its mean, nats), "accepted"
        (tokens)}, if the sampler recorded them.
    """

    request: Request
    turn: ModelTurn
    steps: list[int]
    valid_tokens: list[int]
    drafts: list[list[dict[str, Any]]] | None = None


@dataclasses.dataclass
class Session:
    """Answers rows.

    Attributes:
      system: goes before messages that do not begin with a system turn.
      thinking: asks for thoughts.
      watch: see `generate`.
      warm_up: answers a batch of a new shape twice and counts the second time only, for exact
        times: what a program's first run takes besides compilation is more than a few steps.
      statistics: of all answers by mode.
    """

    model: DiffusionGemma | SplitModel
    tokenizer: Tokenizer
    template: ChatTemplate
    sampler: SamplerConfig
    autoregressive: AutoregressiveConfig
    mode: Mode = "diffusion"
    seed: int = 0
    system: str | None = None
    thinking: bool = False
    watch: Callable[[Snapshot], None] | None = None
    warm_up: bool = False
    statistics: dict[Mode, Statistics] = dataclasses.field(
        default_factory=lambda: {"diffusion": Statistics(), "ar": Statistics()}
    )
    _warm: set[tuple] = dataclasses.field(default_factory=set)

    def __post_init__(self):
        self.model = split(self.model)

    def request(self, row: Row) -> Request:
        """The row's prompt as tokens; raises ValueError with what is wrong with it."""
        if row.fault:
            raise ValueError(row.fault)
        messages = row.messages
        starts = isinstance(messages, list) and messages and isinstance(messages[0], dict)
        if self.system is not None and starts and messages[0].get("role") != "system":
            messages = [{"role": "system", "content": self.system}, *messages]
        try:
            json.dumps([messages, row.tools], ensure_ascii=False).encode()
        except UnicodeEncodeError:  # \ud800 is JSON, and bad bytes of a command line look like it
            raise ValueError("half of a surrogate pair, which is no text") from None
        text = self.template.render(messages, tools=row.tools, thinking=self.thinking)
        tokens, room = self.tokenizer.encode(text), self.model.config.max_length
        new = self.autoregressive.max_new_tokens
        if not tokens:
            raise ValueError("the prompt is empty")
        if len(tokens) + new > room:
            raise ValueError(
                f"a prompt of {len(tokens)} and {new} new tokens exceed the model's context "
                f"of {room}"
            )
        config = self.sampler if self.mode == "diffusion" else self.autoregressive
        # Not the text: a template may put the date into it.
        asked = [messages, row.tools, self.thinking, self.mode, self.seed]
        told = json.dumps([*asked, dataclasses.asdict(config)])
        return Request(row.number, tokens, hashlib.sha256(told.encode()).hexdigest()[:16])

    def answer(self, requests: list[Request], rows: int | None = None) -> list[Answer]:
        """The answers to a batch, each as it would be alone; the session's statistics count them.

        Args:
          requests: at least one.
          rows: fills the batch up to a size for which there is a compiled program.
        """
        count = len(requests)
        filled = [*requests, *requests[:1] * ((rows or count) - count)]
        width = bucket(max(len(r.tokens) for r in filled), self.model.config.max_length)
        tokens, mask = pad_prompts([r.tokens for r in filled], self.tokenizer.pad_id, width)
        if self.warm_up and (self.mode, tokens.shape) not in self._warm:
            self._generate(tokens, mask, None)
            self._warm.add((self.mode, tokens.shape))
        with Clock() as clock:
            out = self._generate(tokens, mask, clock)
        if isinstance(out, Generation):
            steps, valid = out.steps[:count], out.valid_tokens[:count]
        else:
            steps = valid = out.valid_tokens[:count, None]
        self.statistics[self.mode].add(steps, valid, clock)
        return [
            Answer(
                request,
                split_turn(self._text(out.tokens[i][: valid[i].sum()])),
                steps[i][steps[i] > 0].tolist(),
                valid[i][steps[i] > 0].tolist(),
                self._drafts(out, i) if self.mode == "diffusion" else None,
            )
            for i, request in enumerate(requests)
        ]

    def as_message(self, turn: ModelTurn) -> Message:
        """The model's turn as the next prompt has it: no thoughts, and no stray special tokens."""
        text = turn.answer
        while found := self.tokenizer.special_tokens_in(text):
            text = text.replace(found[0], "")
        return {"role": "assistant", "content": text}

    def _generate(self, tokens, mask, clock: Clock | None) -> Generation | Continuation:
        model, key = self.model, jax.random.key(self.seed)
        if self.mode == "ar":
            return generate_autoregressive(
                model, tokens, mask, key, self.autoregressive, clock=clock
            )
        return generate(model, tokens, mask, key, self.sampler, watch=self.watch, clock=clock)

    def _text(self, tokens: np.ndarray) -> str:
        return self.tokenizer.decode(tokens, skip_special=False)

    def _drafts(self, out: Generation, row: int) -> list[list[dict[str, Any]]] | None:
        if out.best is None:
            return None
        return [
            [
                {
                    "text": self._text(out.best[row, k, n]),
                    "entropy": float(out.entropy[row, k, n].mean()),
                    "accepted": int(out.accepted[row, k, n].sum()),
                }
                for n in range(steps)
            ]
            for k, steps in enumerate(out.steps[row])
            if steps
        ]


def answer_all(
    session: Session,
    rows: Iterable[Row],
    batch_size: int,
    answered: Callable[[Request], bool],
    emit: Callable[[Answer], None],
    complain: Callable[[str], None],
) -> int:
    """Answers rows in order, batch by batch; returns how many could not be asked.

    Args:
      answered: says which rows to pass over.
      emit: gets each answer as its batch is done.
      complain: gets a line for every row that is refused, with its number.

    Raises:
      ValueError: a row without a number is refused.
    """
    refused, batch, full = 0, [], None
    for row in rows:
        try:
            request = session.request(row)
        except ValueError as error:
            if row.number is None:
                raise
            refused += 1
            complain(f"line {row.number}: {' '.join(str(error).split())}")
            continue
        if not answered(request):
            batch.append(request)
        if len(batch) == batch_size:
            for answer in session.answer(batch):
                emit(answer)
            batch, full = [], batch_size
    if batch:
        for answer in session.answer(batch, full):
            emit(answer)
    return refused


def bucket(longest: int, max_length: int) -> int:
    """The width for prompts of up to `longest` tokens, lest every length compile a program.

    It is one of two in every power of two, from 64 up, within max_length.
    """
    step = max(64, (1 << (longest - 1).bit_length()) // 4)
    return max(longest, min(-(-longest // step) * step, max_length))
