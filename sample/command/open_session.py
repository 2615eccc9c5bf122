"""The session that the command's flags describe."""

import dataclasses
import sys

from absl import flags

from data.text.byte_automaton import compile_regex
from diffusiongemma.formats.checks import CheckpointError
from sample.autoregressive import AutoregressiveConfig
from sample.checkpoint import Checkpoint
from sample.command.canvas_view import Draft
from sample.command.checkpoint_id import CheckpointId, fingerprint
from sample.command.console import terminal_size
from sample.command.demand import from_flags
from sample.command.flags import AUTOREGRESSIVE, SAMPLER, SHARED, rows_together
from sample.command.media import media_of, picture_reader
from sample.command.session import Session
from sample.command.sight import look
from sample.config_flags import given_fields
from sample.page.record import CANDIDATES
from sample.page.recorder import Recorder
from sample.split_model import split
from sample.step import SamplerConfig


def open_session(values: flags.FlagValues) -> Session:
    """Opens the checkpoint and makes a session. Settings are checked before weights are read.

    Raises:
      ValueError, OSError: settings are out of range, or the checkpoint cannot be loaded.
    """
    demand = from_flags(values.regex, values.schema)
    if demand is not None:
        compile_regex(demand)
    checkpoint = Checkpoint.open(values.checkpoint, values.base, values.tokenizer)
    reader = picture_reader(values, checkpoint)
    wanted = given_fields(values, SAMPLER)
    candidates = wanted.pop("candidates", CANDIDATES)  # the recorder's, and no answer depends on it
    sampler = SamplerConfig(**(checkpoint.sampler_defaults | wanted))
    own = given_fields(values, [name for name in AUTOREGRESSIVE if name not in SHARED])
    shared = {name: getattr(sampler, name) for name in SHARED}
    if sampler.max_new_tokens is None:  # one canvas, whose size the model knows
        del shared["max_new_tokens"]
    autoregressive = AutoregressiveConfig(**shared, **own)
    for stop in values.stop:
        if special := checkpoint.tokenizer.special_tokens_in(stop):
            raise ValueError(
                f"--stop={stop}: {special[0]} is a special token, and never part of an answer's "
                f"text: --stop-ids={checkpoint.tokenizer.token_id(special[0])} ends answers at it"
            )
    size = checkpoint.config.vocab_size
    if wrong := [i for i in values["stop_ids"].value or () if not 0 <= i < size]:
        raise ValueError(f"--stop-ids={wrong[0]} is no token: the vocabulary has 0 to {size - 1}")
    if media := media_of(values):  # what cannot be shown is said before weights are read
        asked = [{"role": "user", "content": media}]
        look(asked, None, checkpoint.config, checkpoint.tokenizer, reader)
    try:
        model = split(checkpoint.load(values.dtype))
    except CheckpointError as error:
        if values.dtype != "float16" or "inf or nan" not in str(error):
            raise
        raise ValueError(
            "--dtype=float16 makes inf of numbers above 65,504, or the weights are damaged; try "
            f"--dtype=bfloat16. {error}"
        ) from None
    name = CheckpointId(values.checkpoint)
    if values.out:
        name = name._replace(fingerprint=fingerprint(checkpoint, model, values.tokenizer))
    if sampler.max_new_tokens is None:
        canvas = sampler.canvas_size or model.config.canvas_size
        autoregressive = dataclasses.replace(autoregressive, max_new_tokens=canvas)
    return Session(
        model,
        checkpoint.tokenizer,
        checkpoint.template,
        sampler,
        autoregressive,
        mode="ar" if values.mode == "ar" else "diffusion",
        seed=values.seed,
        system=values.system if (values.system or "").strip() else None,
        thinking=values.thinking,
        stop_texts=tuple(values.stop),
        demand=demand,
        checkpoint=name,
        warm_up=bool(values.page),
        recorder=Recorder(checkpoint.tokenizer, candidates) if values.page else None,
        pictures=reader,
    )


def open_draft(values: flags.FlagValues, session: Session) -> Draft | None:
    """The draft that --draft asks for, which then watches the session; None if there is none.

    Without the flag there is a draft if answers go to a terminal, one at a time. If they go into a
    pipe, the draft is drawn on stderr, because only answers may go into the pipe.
    """
    terminal = sys.stdout.isatty()
    alone = values.mode == "diffusion" and rows_together(values) == 1
    alone = alone and not (values.out or values.page)
    if not (terminal and alone if values.draft is None else values.draft):
        return None
    stop_ids = session.sampler.stop_ids
    draft = Draft(
        session.tokenizer,
        session.model.config.stop_ids if stop_ids is None else stop_ids,
        sys.stdout if terminal else sys.stderr,
        terminal_size,
    )
    session.watch = draft.draw
    return draft
