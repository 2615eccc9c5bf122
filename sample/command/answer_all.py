"""All answers to a list of prompts, batch by batch."""

import collections
from collections.abc import Callable, Iterable

from sample.command.answer import Answer, Request
from sample.command.prompt_rows import PromptRow
from sample.command.session import Session
from sample.stopping import NonFiniteLogits


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
      complain: gets a line for every row that cannot be answered, with its number.
      samples: number of answers to each row.

    Returns:
      the number of rows that could not be answered.

    Raises:
      ValueError: a row without a number cannot be answered.
    """
    refused, repeats = set[str](), collections.Counter[str]()
    batch: list[Request] = []
    full = None

    def refuse(number: int | None, place: str, fault: str) -> None:
        if number is None:
            raise ValueError(fault)
        if place not in refused:  # once for all samples
            complain(f"{place}: {' '.join(fault.split())}")
        refused.add(place)

    def answer(batch: list[Request]) -> None:
        while batch:
            try:
                answers = session.answer(batch, full)
            except NonFiniteLogits as error:
                # The other rows are asked again without these, and so none of them is lost.
                left = []
                for row, request in enumerate(batch):
                    if row in error.faults:
                        refuse(request.number, request.place, error.faults[row])
                    else:
                        left.append(request)
                batch = left
                continue
            for each in answers:
                emit(each)
            return

    for row in rows:
        try:
            request = session.request(row)
        except ValueError as error:
            refuse(row.number, row.place, str(error))
            continue
        request = request._replace(place=row.place, repeat=repeats[request.checksum])
        repeats[request.checksum] += 1
        for asked in (request._replace(sample=sample) for sample in range(samples)):
            if answered(asked):
                continue
            if batch and (asked.room, asked.demand) != (batch[0].room, batch[0].demand):
                answer(batch)
                batch, full = [], None
            batch.append(asked)
            if len(batch) == batch_size:
                answer(batch)
                batch, full = [], batch_size
    answer(batch)
    return len(refused)
