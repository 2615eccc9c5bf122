"""From flags to a session."""

import dataclasses
import sys
from pathlib import Path

from absl import flags

from data.text.chat_template import ChatTemplate
from sample.autoregressive import AutoregressiveConfig
from sample.command.canvas_view import Draft
from sample.command.console import terminal_size
from sample.command.flags import AUTOREGRESSIVE, SAMPLER, SHARED, given_fields
from sample.command.session import Session
from sample.generation_config import sampler_defaults
from sample.loading import check_vocabulary, companions, load, locate
from sample.step import SamplerConfig


def open_session(values: flags.FlagValues) -> Session:
    """The session that the flags describe, with its model; settings are looked at before weights.

    Raises:
      ValueError, OSError: settings out of range, or a checkpoint that cannot be loaded.
    """
    folder = locate(Path(values.checkpoint))
    home = companions(folder, values.base)
    sampler = SamplerConfig(**(sampler_defaults(home) | given_fields(values, SAMPLER)))
    own = given_fields(values, [name for name in AUTOREGRESSIVE if name not in SHARED])
    shared = {n: v for n in SHARED if (v := getattr(sampler, n)) is not None}
    autoregressive = AutoregressiveConfig(**shared, **own)
    model, tokenizer = load(folder, values.tokenizer, values.dtype, values.base)
    check_vocabulary(model, tokenizer)
    if sampler.max_new_tokens is None:
        canvas = sampler.canvas_size or model.config.canvas_size
        autoregressive = dataclasses.replace(autoregressive, max_new_tokens=canvas)
    return Session(
        model,
        tokenizer,
        ChatTemplate.load(home, tokenizer),
        sampler,
        autoregressive,
        mode="ar" if values.mode == "ar" else "diffusion",
        seed=values.seed,
        system=values.system,
        thinking=values.thinking,
    )


def open_draft(values: flags.FlagValues, session: Session) -> Draft | None:
    """The draft that --draft asks for, which then watches the session; None if it does not.

    It is on if answers go to a terminal, one at a time. Into a pipe only answers go, so there it is
    drawn on stderr.
    """
    terminal = sys.stdout.isatty()
    alone = values.mode == "diffusion" and values.batch_size == 1 and not values.out
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
