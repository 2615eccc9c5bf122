"""Answers requests with a session, on the thread that owns the model."""

import dataclasses
import re
from collections.abc import Callable

import jax

from sample.batch import bucket
from sample.command.answer import Answer, Request
from sample.command.session import ContextFull, Session
from sample.generation import Snapshot
from sample.page.record import CANDIDATES, token_texts
from sample.server.chat_request import ChatRequest, Defaults
from sample.server.errors import TOO_DEEP, Refused, wrong
from sample.server.events import Grown, Said, Started, Stepped
from sample.server.jobs import Job
from sample.server.so_far import SoFar
from sample.server.steps import StepEvents, StepWatch
from sample.statistics import Statistics
from sample.stopping import NonFiniteLogits

# Each setting of the sampler, number of canvases, width of a prompt and demand has a program of its
# own, and a server runs for long. So the programs are dropped when there are this many.
MOST_PROGRAMS = 64
_FLAG = re.compile(r"--([a-z]+(?:-[a-z]+)*)")


class Engine:
    """Answers jobs, one after another. Each gets what it would get from `generate` alone.

    Args:
      session: has the model, and the settings of requests that do not say otherwise.
      over: asked after each canvas and at each step that is shown. If it says so, the answer ends.
    """

    def __init__(self, session: Session, over: Callable[[], bool]):
        self._session, self._over = session, over
        self._watch, self._text_of = StepWatch(), token_texts(session.tokenizer)
        self._programs: set[tuple] = set()

    def __call__(self, job: Job) -> None:
        """Answers a job: Started, then for each choice Grown or Stepped, and Said.

        Raises:
          Refused: the request cannot be answered.
          KeyboardInterrupt: the job is cancelled, or `over` says that all is over.
        """
        asked: ChatRequest = job.asked
        session = self._session_for(asked, job)
        try:
            request = session.request(asked.row)
        except ContextFull as error:
            raise Refused(400, in_fields(error), "messages", "context_length_exceeded") from None
        except ValueError as error:
            raise Refused(400, in_fields(error)) from None
        except RecursionError:
            raise Refused(400, TOO_DEEP) from None
        self._count_program(session, request)
        text = session.prompt_text(request.tokens) if asked.steps else ""
        job.send(Started(len(request.tokens), text))
        try:
            for index in range(asked.choices):
                self._answer(session, request._replace(sample=index), job)
        except NonFiniteLogits as error:
            raise Refused(500, error.faults[0]) from None
        except ValueError as error:
            raise Refused(400, in_fields(error)) from None
        except RuntimeError as error:  # JAX has no error class for too little memory
            if "RESOURCE_EXHAUSTED" not in str(error):
                raise
            message = "out of memory: give a shorter prompt or a smaller max_tokens"
            raise Refused(500, message, code="out_of_memory") from None

    def _session_for(self, asked: ChatRequest, job: Job) -> Session:
        """A session with the settings of a request, which shares the model and the constraints."""
        tokenizer = self._session.tokenizer
        for stop in asked.stop_texts:
            if special := tokenizer.special_tokens_in(stop):
                fault = f"{special[0]} is a special token, and never part of an answer's text"
                raise wrong("stop", fault)
        sampler = asked.sampler
        if asked.steps:
            sampler = dataclasses.replace(sampler, trajectory=True, candidates=CANDIDATES)
        pictures = self._session.pictures
        if asked.image_tokens is not None:
            pictures = dataclasses.replace(pictures, image_tokens=asked.image_tokens)
        new = sampler.max_new_tokens or sampler.canvas_size or self._session.canvas_size
        return dataclasses.replace(
            self._session,
            sampler=sampler,
            pictures=pictures,
            autoregressive=dataclasses.replace(self._session.autoregressive, max_new_tokens=new),
            seed=asked.seed,
            thinking=asked.thinking,
            stop_texts=asked.stop_texts,
            watch=self._watch if asked.steps else None,
            interrupted=lambda: interrupted(job, self._over),
            statistics={"diffusion": Statistics(), "ar": Statistics()},
        )

    def _answer(self, session: Session, request: Request, job: Job) -> None:
        """Answers a request, and sends what there is of the answer as it grows."""
        asked: ChatRequest = job.asked
        obeys, index = request.demand is not None, request.sample
        so_far = SoFar(session.tokenizer, session.stop_ids, session.stop_texts, obeys)
        room = request.room or session.autoregressive.max_new_tokens
        # What is filled in stands between texts that are given, and is sent as a whole.
        if asked.stream and request.outline is None:
            session.progress = lambda tokens: job.send(Grown(index, *so_far.grown(tokens[:room])))
        if asked.steps:
            events = StepEvents(self._text_of, session.stop_ids, room)
            self._watch.show = lambda seen: show(events, seen, job, session.interrupted)
        try:
            [answer] = session.answer([request])
        finally:
            self._watch.show = None
        job.send(_said(session, answer, so_far))

    def _count_program(self, session: Session, request: Request) -> None:
        """Drops all programs before there are too many."""
        size = session.canvas_size
        new = request.room or session.autoregressive.max_new_tokens
        width = bucket(len(request.tokens), session.model.config.max_length)
        settings = dataclasses.replace(session.sampler, max_new_tokens=None)
        shown = sum(len(image.patches) for image in request.images)
        program = settings, width, -(-new // size), hash(request.demand), request.outline is None
        program = *program, bucket(shown, 2 * shown) if shown else 0
        if program not in self._programs and len(self._programs) >= MOST_PROGRAMS:
            jax.clear_caches()
            self._programs.clear()
        self._programs.add(program)


def defaults_of(session: Session, model: str) -> Defaults:
    """What holds for requests to a session that do not say otherwise."""
    return Defaults(model, session.sampler, session.seed, session.stop_texts, session.thinking)


def interrupted(job: Job, over: Callable[[], bool]) -> bool:
    """Whether an answer is to end: nobody waits for it, or all is over."""
    return job.cancelled or over()


def in_fields(error: Exception) -> str:
    """What an error says, with the fields of a request in the place of the command's flags."""
    return _FLAG.sub(_field, " ".join(str(error).split()))


def _field(flag: re.Match) -> str:
    name = flag[1].replace("-", "_")
    return "max_tokens" if name == "max_new_tokens" else name


def show(events: StepEvents, seen: Snapshot, job: Job, ends: Callable[[], bool]) -> bool:
    """Sends a step; returns whether it is the last one, because the answer is to end."""
    if (event := events.event(seen)) is not None:
        job.send(Stepped(event))
    return ends()


def _said(session: Session, answer: Answer, so_far: SoFar) -> Said:
    message = session.as_message(answer.turn)
    index, thoughts = answer.request.sample, answer.turn.thoughts
    rest = Grown(index, *so_far.rest(message["content"], thoughts))
    parts = answer.finish_reason, answer.steps, answer.valid_tokens
    return Said(index, message, thoughts, rest, *parts)
