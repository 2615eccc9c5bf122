"""A conversation on the terminal."""

from collections.abc import Callable

from data.text.chat import Message
from sample.command.prompt_rows import PromptRow
from sample.command.session import Answer, Session


def chat(
    session: Session,
    read: Callable[[], str | None],
    emit: Callable[[Answer], None],
    complain: Callable[[str], None],
) -> None:
    """Reads and answers messages until `read` gives None or a blank line.

    The model sees all earlier turns, without its thoughts. A message that cannot be asked, such as
    one that is too long, does not become part of the conversation.

    Args:
      session: answers.
      read: gives the user's next message.
      emit: gets each answer.
      complain: gets a line that says why a message cannot be asked.
    """
    messages: list[Message] = []
    while (text := read()) and text.strip():
        asked = [*messages, {"role": "user", "content": text}]
        try:
            request = session.request(PromptRow(None, asked))
        except ValueError as error:
            complain(f"not asked: {' '.join(str(error).split())}")
            continue
        [answer] = session.answer([request])
        emit(answer)
        messages = [*asked, session.as_message(answer.turn)]
