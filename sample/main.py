"""Asks a model, with a checkpoint of any format: one prompt, a file of prompts, or a chat.

    python -m sample.main --checkpoint=DIR --prompt="Why is the sky blue?"
    python -m sample.main --checkpoint=DIR --prompts=FILE.jsonl --out=ANSWERS.jsonl --batch-size=8
    echo "Why is the sky blue?" | python -m sample.main --checkpoint=DIR
    python -m sample.main --checkpoint=DIR            # a chat; /help lists what it understands
    python -m sample.main --checkpoint=DIR --fill="The sky is<fill:4> by day."
    python -m sample.main --checkpoint=DIR --edit="The sky is green." --spans=green
    python -m sample.main --checkpoint=DIR --image=FILE --prompt="What is this?"
    python -m sample.main --checkpoint=DIR --prompts=FILE.txt --mode=both     # compares the modes
    python -m sample.main --checkpoint=DIR --prompt=Hi --page=FILE.html       # shows every step
    python -m sample.main --checkpoint=DIR --serve=8000                 # page and API
    python -m sample.main --checkpoint=DIR --prompt=Hi --max-steps=2 --nojit  # for debugging

Answers go to stdout or to --out, everything else goes to stderr. The sampler's defaults come from
the folder's generation_config.json, or else are the published ones; flags win. The exit status is 1
if a record of --prompts could not be answered, 2 if nothing could be done, and 130 after Ctrl-C.
Ctrl-C ends the run after the canvas that is being denoised; pressed again, it ends the run at once.
A server ends so too, with the status 0.
"""

import sys
from pathlib import Path

from absl import flags, logging

from data.text.holes import read_pieces
from sample import cli, compile_cache
from sample.command.answer import Answer
from sample.command.answer_all import answer_all
from sample.command.answer_file import AnswerFile
from sample.command.chat_loop import chat
from sample.command.console import asked_rows, complain, counted, show
from sample.command.flags import LOOPBACK, check_flags, define_flags, rows_together
from sample.command.interrupts import Interrupts
from sample.command.media import media_of, shown_rows
from sample.command.open_session import open_draft, open_session
from sample.command.output import Output
from sample.command.page_records import write_answers
from sample.command.prompt_rows import PromptRow, left_to_right
from sample.command.session import Session
from sample.command.typed import read_line
from sample.page.write import check_page
from sample.statistics import comparison, summary


def main(argv: list[str]) -> int:
    """Runs the command; returns its exit status."""
    values = define_flags()
    return cli.run(values, lambda: _run(values), argv, __doc__)


def _run(values: flags.FlagValues) -> int:
    check_flags(values)
    compile_cache.enable()
    logging.set_verbosity(logging.FATAL)  # or orbax would log every file and every error
    if values.serve is not None:
        return _serve(values)
    pieces = read_pieces(values.fill, values.edit, values.spans)
    rows = shown_rows(asked_rows(values.prompt, values.prompts, pieces), media_of(values))
    if rows and values.mode != "diffusion":
        rows = list(map(left_to_right, rows))
    if rows is None and (
        values.out or values.page or values.mode == "both" or values.num_samples > 1
    ):
        raise ValueError("--out, --page, --mode=both and --num-samples need --prompt or --prompts")
    if values.page:
        check_page(Path(values.page))
    file = AnswerFile(Path(values.out)) if values.out else None
    output = Output(file, values.show_thoughts, values.num_samples)
    with Interrupts(output.say) as interrupts:
        return _answer(values, rows, output, interrupts)


def _serve(values: flags.FlagValues) -> int:
    """Serves until Ctrl-C, by which a server ends as it should."""
    from sample.server.serve import bind, serve

    host = values.host or LOOPBACK
    with bind(host, values.serve) as bound, Interrupts(complain) as interrupts:
        with interrupts.held(presses=1):
            session = open_session(values)
        with interrupts.held():
            serve(session, bound, host, interrupts.pressed)
    return 0


def _answer(
    values: flags.FlagValues,
    rows: list[PromptRow] | None,
    output: Output,
    interrupts: Interrupts,
) -> int:
    with interrupts.held(presses=1):
        session = open_session(values)
    session.interrupted = interrupts.pressed
    batch_size, samples = rows_together(values), values.num_samples
    output.draft = open_draft(values, session)
    if session.watch:
        session.watch = interrupts.watching(session.watch)
    if rows is None:
        chat(session, read_line, output.answer, output.say, interrupts, media_of(values))
        return _finish(session, 0, rows)
    try:
        with interrupts.held():
            if values.mode == "both":
                return _compare(session, rows, batch_size, samples)
            refused = answer_all(
                session, rows, batch_size, output.has, output.answer, output.say, samples
            )
    finally:
        output.close()
        if session.recorder is not None:
            complain(write_answers(Path(values.page), session.recorder))
    return _finish(session, refused, rows)


def _compare(session: Session, rows: list[PromptRow], batch_size: int, samples: int) -> int:
    """Answers all rows in both modes, and prints a table of both modes' figures."""
    session.warm_up = True
    told = set[str]()  # each line once, though both modes say which rows cannot be asked

    def say(line: str) -> None:
        if line not in told:
            complain(line)
        told.add(line)

    def emit(answer: Answer) -> None:
        """Prints a text that was filled in: the same holes in both modes."""
        if answer.request.outline:
            place = answer.request.place
            complain(f"{place}, {session.mode}:" if place else f"{session.mode}:")
            show(answer, thoughts=False)

    for session.mode in ("diffusion", "ar"):
        refused = answer_all(session, rows, batch_size, lambda request: False, emit, say, samples)
    if refused < len(rows):
        print(comparison(*(s.figures() for s in session.statistics.values())))
    return _finish(session, refused, rows)


def _finish(session: Session, refused: int, rows: list[PromptRow] | None) -> int:
    """Prints figures and the number of refused lines; returns the exit status."""
    for mode, statistics in session.statistics.items():
        if statistics.sequences:
            complain(summary(statistics.figures(), mode == "ar"))
    if refused:
        complain(f"error: {refused} of {counted(len(rows), 'prompt')} could not be answered")
    return int(refused > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv))
