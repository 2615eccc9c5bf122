"""A conversation on the terminal."""

from collections.abc import Callable, Sequence

from sample.command.answer import Answer
from sample.command.conversation import Conversation
from sample.command.interrupts import Interrupts
from sample.command.session import Session
from sample.command.typed import Typed, read_typed
from sample.prefill import KeptPrompt
from sample.stopping import NonFiniteLogits


def chat(
    session: Session,
    read_line: Callable[[str], str | None],
    emit: Callable[[Answer], None],
    say: Callable[[str], None],
    interrupts: Interrupts,
    shown: Sequence[dict[str, str]] = (),
) -> None:
    """Reads and answers messages until the end of the input, `/exit`, or Ctrl-C pressed twice.

    The model sees all earlier turns that its context has room for, without its thoughts. Blank
    messages are passed over. A message that cannot be asked, and one whose answer was stopped by
    Ctrl-C, does not become part of the conversation. conversation.py has the commands.

    Args:
      session: answers. It asks `interrupts` whether to go on.
      read_line: shows a prompt and gives a line or a paste; None at the end of the input.
      emit: gets each answer.
      say: gets each line for the user that is no answer.
      interrupts: knows of Ctrl-C while an answer is made.
      shown: images and videos that the first message has, as parts of its content.

    Raises:
      ValueError: one of them cannot be shown.
    """
    talk = Conversation(session, say)
    session.kept = KeptPrompt(session.tokenizer.turn_start_id)  # each turn reads what is new
    for part in shown:
        talk.show(part)
    while (typed := _next(read_line, say)) is not None:
        if typed.text.strip() and not talk.obey(typed):
            _turn(session, talk, typed.text, emit, say, interrupts)
        if talk.over:
            break


def _next(read_line: Callable[[str], str | None], say: Callable[[str], None]) -> Typed | None:
    """The next message; None at the end of the input, or if Ctrl-C is pressed twice in a row."""
    interrupted = False
    while True:
        try:
            return read_typed(read_line)
        except KeyboardInterrupt:
            if interrupted:
                return None
            interrupted = True
            say("\nCtrl-C again ends the chat")
        except UnicodeDecodeError:
            say("not asked: the text is not UTF-8")
        except ValueError as error:
            say(f"not asked: {error}")


def _turn(
    session: Session,
    talk: Conversation,
    text: str,
    emit: Callable[[Answer], None],
    say: Callable[[str], None],
    interrupts: Interrupts,
) -> None:
    """Asks one question. Nothing is kept of it if it cannot be answered, or if Ctrl-C stops it."""
    try:
        with interrupts.held():
            [answer] = session.answer([talk.request(text)])
            emit(answer)
            talk.add(text, answer.turn)
    except NonFiniteLogits as error:
        say(f"no answer: {error.faults[0]}")
    except ValueError as error:
        say(f"not asked: {' '.join(str(error).split())}")
    except KeyboardInterrupt:
        say("stopped: the question and what there was of its answer are dropped")
