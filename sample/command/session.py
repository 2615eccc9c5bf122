"""A model with its tokenizer and its chat template, which answers prompts."""

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
from sample.command.prompt_rows import PromptRow
from sample.sampler import Generation, Snapshot, generate
from sample.split_model import SplitModel, split
from sample.statistics import Statistics
from sample.step import SamplerConfig
from sample.timing import Clock

Mode = Literal["diffusion", "ar"]


class Request(NamedTuple):
    """A prompt as tokens.

    Attributes:
      number: the row's number.
      tokens: the tokens of the prompt.
      checksum: a hash of all that the answer depends on, except for the checkpoint.
    """

    number: int | None
    tokens: list[int]
    checksum: str


class Answer(NamedTuple):
    """The model's answer to a request.

    Attributes:
      request: what was asked.
      turn: the text, split into answer, thoughts and tool calls.
      steps: number of steps of each canvas that was begun. In the mode "ar", the answer is one
        canvas.
      valid_tokens: number of valid tokens in each of these canvases.
      drafts: for each canvas and step {"text", "entropy" (mean, nats), "accepted" (number of
        tokens)}; None if the sampler did not record them.
    """

    request: Request
    turn: ModelTurn
    steps: list[int]
    valid_tokens: list[int]
    drafts: list[list[dict[str, Any]]] | None = None


@dataclasses.dataclass
class Session:
    """Answers prompts.

    Attributes:
      model: the model.
      tokenizer: the model's tokenizer.
      template: turns messages into the text of a prompt.
      sampler: settings of the mode "diffusion".
      autoregressive: settings of the mode "ar".
      mode: how to generate.
      seed: random seed.
      system: a system turn for messages that do not begin with one.
      thinking: whether to ask for thoughts.
      watch: sees every denoising step; see `generate`.
      warm_up: answer a batch of a new shape twice and count only the second time. Times are exact
        then: besides compilation, a program's first run costs more than a few steps.
      statistics: sums over all answers of each mode.
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

    def request(self, row: PromptRow) -> Request:
        """Encodes a row's prompt; raises ValueError if it cannot be asked."""
        if row.fault:
            raise ValueError(row.fault)
        messages = row.messages
        starts = isinstance(messages, list) and messages and isinstance(messages[0], dict)
        if self.system is not None and starts and messages[0].get("role") != "system":
            messages = [{"role": "system", "content": self.system}, *messages]
        try:
            json.dumps([messages, row.tools], ensure_ascii=False).encode()
        except UnicodeEncodeError:  # from "\ud800" in JSON, or from bad bytes on a command line
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
        # The messages and not the text, because a template may put the date into the text.
        asked = [messages, row.tools, self.thinking, self.mode, self.seed]
        told = json.dumps([*asked, dataclasses.asdict(config)])
        return Request(row.number, tokens, hashlib.sha256(told.encode()).hexdigest()[:16])

    def answer(self, requests: list[Request], rows: int | None = None) -> list[Answer]:
        """Answers a batch of at least one request. Each gets the answer that it would get alone.

        Args:
          requests: the prompts.
          rows: number of rows to fill the batch up to, because a program was compiled for so many;
            None for no filling.
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
                split_turn(self.tokenizer.decode_marked(out.tokens[i][: valid[i].sum()])),
                steps[i][steps[i] > 0].tolist(),
                valid[i][steps[i] > 0].tolist(),
                self._drafts(out, i) if self.mode == "diffusion" else None,
            )
            for i, request in enumerate(requests)
        ]

    def as_message(self, turn: ModelTurn) -> Message:
        """The model's turn as a message of the next prompt, without thoughts and special tokens."""
        text = turn.answer
        while found := self.tokenizer.special_tokens_in(text):
            text = text.replace(found[0], "")
        return {"role": "assistant", "content": text}

    def _generate(
        self, tokens: np.ndarray, mask: np.ndarray, clock: Clock | None
    ) -> Generation | Continuation:
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
    rows: Iterable[PromptRow],
    batch_size: int,
    answered: Callable[[Request], bool],
    emit: Callable[[Answer], None],
    complain: Callable[[str], None],
) -> int:
    """Answers rows in order, batch by batch.

    Args:
      session: answers.
      rows: the prompts.
      batch_size: number of prompts that are answered together.
      answered: says whether a request is answered already; such a request is not asked.
      emit: gets each answer when its batch is done.
      complain: gets a line for every row that cannot be asked, with its number.

    Returns:
      the number of rows that could not be asked.

    Raises:
      ValueError: a row without a number cannot be asked.
    """
    refused, batch, full = 0, [], None
    for row in rows:
        try:
            request = session.request(row)
        except ValueError as error:
            if row.number is None:
                raise
            refused += 1
            complain(f"{row.place}: {' '.join(str(error).split())}")
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
    """The width to which prompts of up to `longest` tokens are padded.

    There are two widths in every power of two, from 64 up to max_length, so that a program serves
    prompts of many lengths.
    """
    step = max(64, (1 << (longest - 1).bit_length()) // 4)
    return max(longest, min(-(-longest // step) * step, max_length))
