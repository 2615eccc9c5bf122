"""All answers to a list of prompts, batch by batch."""

from collections.abc import Callable, Iterable

from sample.command.answer import Answer, Request
from sample.command.prompt_rows import PromptRow
from sample.command.session import Session


def answer_all(
    session: Session,
    rows: Iterable[PromptRow],
    batch_size: int,
    answered: Callable[[Request], bool],
    emit: Callable[[Answer], None],
    complain: Callable[[str], None],
    samples: int = 1,
) -> int:
    """Answers rows in order, batch by batch.

    Args:
      session: answers.
      rows: the prompts.
      batch_size: number of answers that are made together.
      answered: says whether a request is answered already; such a request is not asked.
      emit: gets each answer when its batch is done.
      complain: gets a line for every row that cannot be asked, with its number.
      samples: number of answers to each row.

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
        for asked in (request._replace(sample=sample) for sample in range(samples)):
            if not answered(asked):
                batch.append(asked)
            if len(batch) == batch_size:
                for answer in session.answer(batch):
                    emit(answer)
                batch, full = [], batch_size
    if batch:
        for answer in session.answer(batch, full):
            emit(answer)
    return refused
