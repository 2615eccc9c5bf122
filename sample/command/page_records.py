"""The answers of a session on a page."""

from pathlib import Path

from sample.autoregressive import Continuation
from sample.command.answer import Request
from sample.command.fill import Plan
from sample.generation import Generation
from sample.page.record import About
from sample.page.recorder import Recorder
from sample.page.write import write_and_say
from sample.step import SamplerConfig
from sample.timing import Clock


def record_answers(
    recorder: Recorder,
    requests: list[Request],
    prompts: list[str],
    out: Generation | Continuation,
    config: SamplerConfig,
    plan: Plan | None,
    clock: Clock,
) -> None:
    """Adds the answers to a batch.

    Args:
      recorder: gets the answers.
      requests: what was asked. The batch begins with its rows.
      prompts: the texts of the prompts.
      out: what was generated. A batch that was denoised has a trajectory.
      config: the sampler's settings.
      plan: what was filled in; None for answers of the model's own.
      clock: has the laps of a run that recorded nothing.
    """
    seconds = sum(clock.seconds[name] for name in ("denoise", "commit", "decode"))
    for i, request in enumerate(requests):
        key = request.number, request.sample
        if isinstance(out, Continuation):
            valid = out.valid_tokens
            tokens = out.tokens[i, : valid[i]]
            recorder.add_left_to_right(key, tokens, int(valid.max()), seconds)
            continue
        title = request.place or "The answer"
        if request.sample:
            title += f", sample {request.sample}"
        about = About(title, prompts[i], request.checkpoint.folder)
        kept = None if plan is None else plan.given.keep[i]
        recorder.add(key, out, i, config, about, kept, seconds)


def write_answers(path: Path, recorder: Recorder) -> str:
    """Writes a page with the answers that there are; returns a line that says so.

    Raises:
      OSError: the file cannot be written.
    """
    records = recorder.records()
    if not records:
        return f"{path} is not written: nothing was answered"
    return write_and_say(path, records, recorder.left_out)
