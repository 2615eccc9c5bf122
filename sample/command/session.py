"""A model with its tokenizer and its chat template, which answers prompts."""

import dataclasses
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np

from data.images.sources import PictureReader
from data.text.chat import Message, ModelTurn
from data.text.chat_template import ChatTemplate
from data.text.holes import piece_text, source
from data.text.tokenizer import Tokenizer
from diffusiongemma import DiffusionGemma, Images
from sample.autoregressive import AutoregressiveConfig, Continuation, generate_autoregressive
from sample.batch import bucket, pad_prompts, row_keys
from sample.command.answer import Answer, Request, drafts
from sample.command.checkpoint_id import UNNAMED, CheckpointId
from sample.command.demands import check_fits, compile_demand
from sample.command.fill import Outline, Plan, choose_sizes, outline, plan_of
from sample.command.page_records import record_answers
from sample.command.prompt_rows import PromptRow
from sample.command.sight import ContextFull, Seen, batch_images, look
from sample.command.turn_end import has_stop_text, read_turn
from sample.generation import Generation, Snapshot
from sample.given import Given
from sample.images import row_contents
from sample.obey import Constraint
from sample.page.recorder import Recorder
from sample.prefill import KeptPrompt
from sample.sampler import generate
from sample.split_model import SplitModel, split
from sample.statistics import Statistics
from sample.step import SamplerConfig
from sample.stopping import NonFiniteLogits
from sample.timing import Clock

Mode = Literal["diffusion", "ar"]
SYSTEM = ("system", "developer")  # two names of one role


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
      stop_texts: texts that end an answer. The answer ends before the first of them.
      demand: the regular expression that an answer must match if its row has no demand of its own;
        None for no demand.
      checkpoint: which checkpoint the model is.
      kept: the conversation that requests asked alone belong to; see `generate`.
      watch: sees every denoising step; see `generate`.
      interrupted: asked after each canvas or piece; if it says so, `answer` raises
        KeyboardInterrupt.
      cut: asked after each canvas or piece; if it says so, the answers end there as they are.
      progress: gets the tokens [n] so far of each row that goes on, after each canvas or piece. In
        the mode "ar" it also gets those of each whole answer that nothing was given of.
      piece: number of tokens of a piece in the mode "ar"; None for the usual number.
      warm_up: answer a batch of a new shape twice and count only the second time. Times are exact
        then: besides compilation, a program's first run costs more than a few steps.
      recorder: gets every answer, for a page. While it has room, answers are generated a second
        time, and recorded, so that times are those of a run that records nothing.
      statistics: sums over all answers of each mode.
      pictures: reads the images and videos of messages.
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
    stop_texts: tuple[str, ...] = ()
    demand: str | None = None
    checkpoint: CheckpointId = UNNAMED
    kept: KeptPrompt | None = None
    watch: Callable[[Snapshot], bool | None] | None = None
    interrupted: Callable[[], bool] | None = None
    cut: Callable[[], bool] | None = None
    progress: Callable[[np.ndarray], None] | None = None
    piece: int | None = None
    warm_up: bool = False
    recorder: Recorder | None = None
    statistics: dict[Mode, Statistics] = dataclasses.field(
        default_factory=lambda: {"diffusion": Statistics(), "ar": Statistics()}
    )
    pictures: PictureReader = dataclasses.field(default_factory=PictureReader)
    _warm: set[tuple] = dataclasses.field(default_factory=set)
    _constraints: dict[str, Constraint] = dataclasses.field(default_factory=dict)

    def __post_init__(self):
        self.model = split(self.model)

    @property
    def config(self) -> SamplerConfig | AutoregressiveConfig:
        """The settings of the session's mode."""
        return self.sampler if self.mode == "diffusion" else self.autoregressive

    @property
    def stop_ids(self) -> tuple[int, ...]:
        """Ids of the tokens that end a generation."""
        own = self.config.stop_ids
        return self.model.config.stop_ids if own is None else own

    @property
    def canvas_size(self) -> int:
        """Number of tokens in a canvas."""
        return self.sampler.canvas_size or self.model.config.canvas_size

    def request(self, row: PromptRow) -> Request:
        """Encodes a row's prompt.

        Raises:
          ContextFull: the prompt is too long.
          ValueError: the row cannot be asked.
        """
        if row.fault:
            raise ValueError(row.fault)
        messages = row.messages
        starts = isinstance(messages, list) and messages and isinstance(messages[0], dict)
        if self.system is not None and starts and messages[0].get("role") not in SYSTEM:
            messages = [{"role": "system", "content": self.system}, *messages]
        try:
            json.dumps([messages, row.tools, row.pieces], ensure_ascii=False).encode()
        except UnicodeEncodeError:  # from "\ud800" in JSON, or from bad bytes on a command line
            raise ValueError("the text is not UTF-8") from None
        seen = self.look(messages, row.folder)
        text = self.template.render(messages, tools=row.tools, thinking=self.thinking)
        text, room = seen.text(text), self.model.config.max_length
        for long in (text, *map(piece_text, row.pieces or ())):
            if self.tokenizer.surely_exceeds(long, room):
                raise ContextFull(
                    f"{len(str(long)):,} characters have more tokens than the model's context of "
                    f"{room}: give a shorter prompt or text"
                )
        tokens = self.tokenizer.encode(text)
        form, new = self._outline(row), self.autoregressive.max_new_tokens
        if form:
            new = form.room
        if not tokens:
            raise ValueError("the prompt is empty")
        if len(tokens) + new > room:
            raise ContextFull(
                f"{len(tokens)} tokens of the prompt and {new} new tokens exceed the model's "
                f"context of {room}: give a shorter "
                + ("prompt or text" if form else "prompt or a smaller --max-new-tokens")
            )
        demand = self.demand if row.demand is None else row.demand
        if (constraint := self._constraint(demand)) is not None:
            filled, size = self.mode == "diffusion", self.model.config.vocab_size
            check_fits(constraint, new, form, filled, size)
        # The messages and not the text, because a template may put the date into the text.
        named = seen.named(messages)
        asked = [named, row.tools, self.thinking, self.mode, self.seed, self.stop_texts]
        settings = dataclasses.asdict(self.config)
        # Answers of older versions, which had no such fields, count.
        for name, old in (("starts", 1), ("candidates", 0), ("restart_every", None)):
            if settings.get(name, old) == old:
                settings.pop(name, None)
        asked += [self.checkpoint.fingerprint, settings]
        if form:
            asked.append(row.pieces)
        if demand is not None:
            asked.append(demand)
        checksum = hashlib.sha256(json.dumps(asked).encode()).hexdigest()[:16]
        asked = Request(row.number, tokens, checksum, self.checkpoint, outline=form, demand=demand)
        return asked._replace(images=seen.patches)

    def look(self, messages: list[Message], folder: Path | None = None) -> Seen:
        """Reads the images and videos of messages, whose paths begin in a folder.

        Raises:
          ValueError: the model has no images, or one cannot be read.
        """
        return look(messages, folder, self.model.config, self.tokenizer, self.pictures)

    def answer(self, requests: list[Request], rows: int | None = None) -> list[Answer]:
        """Answers a batch of at least one request. Each gets the answer that it would get alone.

        Args:
          requests: the prompts. All have the same demand and the same room.
          rows: number of rows to fill the batch up to, because a program was compiled for so many;
            None for no filling.

        Raises:
          KeyboardInterrupt: `interrupted` said so, and no answer is whole.
        """
        count = len(requests)
        filled = [*requests, *requests[:1] * ((rows or count) - count)]
        width = bucket(max(len(r.tokens) for r in filled), self.model.config.max_length)
        tokens, mask = pad_prompts([r.tokens for r in filled], self.tokenizer.pad_id, width)
        images = batch_images((r.images for r in filled), self.model.config)
        sizes = None if images is None else images.patches.shape
        program = self.mode, tokens.shape, filled[0].room, filled[0].demand, sizes
        if self.warm_up and program not in self._warm:
            self._ask(filled, tokens, mask, images, None)
            self._warm.add(program)
        with Clock() as clock:
            out, plan = self._ask(filled, tokens, mask, images, clock)
        if self.recorder is not None:
            if self.mode == "diffusion" and not self.recorder.full:
                shown = self.recorder.settings(self.sampler)
                out, plan = self._ask(filled, tokens, mask, images, None, shown)
            prompts = [self.prompt_text(request.tokens) for request in requests]
            record_answers(self.recorder, requests, prompts, out, self.sampler, plan, clock)
        if isinstance(out, Generation):
            steps, valid, rounds = out.steps[:count], out.valid_tokens[:count], out.rounds
        else:
            steps = valid = out.valid_tokens[:count, None]
            rounds = int(steps.max())
        if plan:
            width = self.canvas_size if self.mode == "diffusion" else plan.written.shape[1]
            valid = plan.counts(width)[:count]
            if self.mode == "diffusion":
                steps, rounds = steps + plan.passes[:count], rounds + plan.rounds
        self.statistics[self.mode].add(steps, valid, rounds, clock)
        answers, asked_drafts = [], self.mode == "diffusion" and self.sampler.trajectory
        for i, request in enumerate(requests):
            begun, before = steps[i] > 0, None
            said = out.tokens[i][: valid[i].sum()]
            if self.progress is not None and self.mode == "ar" and not plan:
                self.progress(said)
            if plan:
                text = request.outline.text(plan.sizes[i], out.tokens[i], self.tokenizer)
                turn, reason = ModelTurn("", text, ()), "stop"
                before = source(request.outline.pieces)
            elif request.demand is None:
                turn, reason = read_turn(said, self.tokenizer, self.stop_ids, self.stop_texts)
            else:  # nothing in the text is a thought or a call, and it is always whole
                said = said[: np.isin([*said, *self.stop_ids], self.stop_ids).argmax()]
                turn, reason = ModelTurn("", self._text(said), ()), "stop"
            shown = drafts(out, i, self._text) if asked_drafts else None
            counts = steps[i][begun].tolist(), valid[i][begun].tolist()
            answers.append(Answer(request, turn, *counts, reason, shown, before))
        return answers

    def as_message(self, turn: ModelTurn) -> Message:
        """The model's turn as a message of the next prompt.

        It has no thoughts. A tool call that cannot be parsed is text, after the answer.
        """
        calls = [call.record() for call in turn.tool_calls if call.function]
        texts = [turn.answer, *(call.text for call in turn.tool_calls if not call.function)]
        return {"role": "assistant", "content": "\n".join(filter(None, texts))} | (
            {"tool_calls": calls} if calls else {}
        )

    def prompt_text(self, tokens: list[int]) -> str:
        """The text of a prompt, in which one token stands for all soft tokens of an image."""
        ids, vision = np.array(tokens), self.model.config.vision
        if vision is not None:
            soft = ids == vision.image_id
            ids = ids[~(soft & np.append(False, soft[:-1]))]
        return self._text(ids)

    def _keys(
        self, tokens: np.ndarray, mask: np.ndarray, samples: list[int], images: Images | None
    ) -> jax.Array:
        """One key for all rows, or one for each if they are not all the first sample."""
        key = jax.random.key(self.seed)
        if not any(samples):
            return key
        # Before the prompt's checksum is folded in. Folded in after it, the number of a sample
        # would be taken for that of a canvas.
        keys = [jax.random.fold_in(key, sample) if sample else key for sample in samples]
        shown = row_contents(self.model.config, images, tokens, mask)
        rows = [(k, slice(i, i + 1)) for i, k in enumerate(keys)]
        return jnp.concatenate([row_keys(k, tokens[i], mask[i], shown[i]) for k, i in rows])

    def _outline(self, row: PromptRow) -> Outline | None:
        """The text that a row asks to fill in or edit."""
        if row.pieces is None:
            return None
        if self.stop_texts or self.thinking:
            raise ValueError(
                "--stop and --thinking are for answers of the model's own, not for a text to fill "
                "in or edit"
            )
        limit = self.sampler.max_new_tokens
        return outline(row.pieces, self.tokenizer, self.stop_ids, self.canvas_size, limit)

    def _ask(
        self,
        requests: list[Request],
        tokens: np.ndarray,
        mask: np.ndarray,
        images: Images | None,
        clock: Clock | None,
        config: SamplerConfig | None = None,
    ) -> tuple[Generation | Continuation, Plan | None]:
        """Generates, after the lengths of holes are chosen. `config` is as for `_generate`."""
        keys = self._keys(tokens, mask, [r.sample for r in requests], images)
        batch, demand = (tokens, mask, keys, clock), requests[0].demand
        if requests[0].outline is None:
            return self._generate(*batch, demand, config=config, images=images), None
        one_step = dataclasses.replace(self.sampler, max_steps=1, starts=1, trajectory=True)
        chosen = {}
        for i, request in enumerate(requests):
            if id(request) in chosen:  # one that only fills up the batch
                continue

            def first_step(given: Given, i: int = i, request: Request = request) -> Generation:
                rows = [i] * len(given.keep)
                same = batch_images([request.images] * len(rows), self.model.config)
                asked = tokens[rows], mask[rows]
                try:
                    keys = self._keys(*asked, [request.sample] * len(rows), same)
                    return self._generate(*asked, keys, clock, None, given, one_step, same)
                except NonFiniteLogits as error:
                    raise NonFiniteLogits({i: next(iter(error.faults.values()))}) from None

            chosen[id(request)] = choose_sizes(request.outline, first_step)
        rows = [(request.outline, chosen[id(request)]) for request in requests]
        plan = plan_of(rows, filled=self.mode == "diffusion")
        return self._generate(*batch, demand, plan.given, config, images), plan

    def _generate(
        self,
        tokens: np.ndarray,
        mask: np.ndarray,
        keys: jax.Array,
        clock: Clock | None,
        demand: str | None,
        given: Given | None = None,
        config: SamplerConfig | None = None,
        images: Images | None = None,
    ) -> Generation | Continuation:
        """Generates with the session's settings, or unwatched with others."""
        self._go_on()
        kept = self.kept if len(tokens) == 1 else None
        asks = self.stop_texts or self.interrupted or self.cut or self.progress
        ended = self._ended if asks else None
        watch = self.watch if config is None else None
        config = config or self.config
        if given is not None:
            config = dataclasses.replace(config, max_new_tokens=given.keep.shape[1])
        asked = self.model, tokens, mask, keys, config
        shared = {
            "images": images,
            "given": given,
            "obey": self._constraint(demand),
            "ended": ended,
            "kept": kept,
            "clock": clock,
        }
        if self.mode == "ar":
            out = generate_autoregressive(*asked, piece=self.piece, **shared)
        else:
            out = generate(*asked, watch=watch, **shared)
        self._go_on()
        return out

    def _constraint(self, demand: str | None) -> Constraint | None:
        """The constraint that a demand is compiled to.

        Raises:
          ValueError: the demand cannot be used.
        """
        if demand is None:
            return None
        if self.thinking or self.stop_texts:
            what = "--thinking" if self.thinking else "--stop"
            raise ValueError(f"{what} has no part in an answer that must match an expression")
        size = self.model.config.vocab_size
        return compile_demand(demand, self._constraints, self.tokenizer, size, self.stop_ids)

    def _go_on(self) -> None:
        """Raises KeyboardInterrupt if the session is to stop."""
        if self.interrupted is not None and self.interrupted():
            raise KeyboardInterrupt

    def _ended(self, tokens: np.ndarray) -> bool:
        self._go_on()  # a row with kept tokens to come would not end
        if self.progress is not None:
            self.progress(tokens)
        if self.cut is not None and self.cut():
            return True
        stops = self.stop_texts
        return bool(stops) and has_stop_text(tokens, self.tokenizer, stops)

    def _text(self, tokens: np.ndarray) -> str:
        return self.tokenizer.decode(tokens, skip_special=False)
