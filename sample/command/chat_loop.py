"""A conversation on the terminal."""

from collections.abc import Callable

from data.text.chat import Message
from sample.command.prompt_rows import Row
from sample.command.session import Answer, Session


def chat(
    session: Session,
    read: Callable[[], str | None],
    emit: Callable[[Answer], None],
    complain: Callable[[str], None],
) -> None:
    """Asks and answers until `read` gives None or a blank line; every turn sees those before it.

    Thoughts are not fed back. What cannot be answered (too long, a special token in it) is said,
    and does not become part of the conversation.
    """
    messages: list[Message] = []
    while (text := read()) and text.strip():
        asked = [*messages, {"role": "user", "content": text}]
        try:
            request = session.request(Row(None, asked))
        except ValueError as error:
            complain(f"not asked: {' '.join(str(error).split())}")
            continue
        [answer] = session.answer([request])
        emit(answer)
        messages = [*asked, session.as_message(answer.turn)]
