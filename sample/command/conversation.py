"""The turns of a chat, and what its commands do with them."""

import json
import re
from collections.abc import Callable
from pathlib import Path

from data.text.chat import Message, ModelTurn
from sample.command.answer import Request
from sample.command.media import content_of, part_of
from sample.command.prompt_rows import PromptRow
from sample.command.session import ContextFull, Session
from sample.command.typed import Typed

HELP = {
    "/clear": "forget the conversation",
    "/undo": "forget the last question and its answer",
    "/image FILE": "show an image with the next message",
    "/video FILE": "show a video, a file or a folder of frames, with the next message",
    "/system TEXT": "set the system turn of a new conversation; without a text, remove it",
    "/save FILE": "append the conversation to FILE as a JSON record, for --prompts or training",
    "/help": "show this",
    "/exit": "end the chat, as Ctrl-D does",
    '""" ... """': "a message of several lines, or one that begins with a slash",
    "Ctrl-C": "stop the answer; pressed again, end the program. At the prompt, twice ends the chat",
}
COMMANDS = tuple(usage.split()[0] for usage in HELP if usage.startswith("/"))


class Conversation:
    """What was said in a chat.

    The model sees the system turn and as many of the latest turns as its context has room for. All
    turns are kept, for `/undo` and `/save`.

    Args:
      session: encodes the prompts, and has the system turn.
      say: gets each line for the user that is no answer.

    Attributes:
      messages: questions and answers in turn, without the system turn.
      over: whether the user has ended the chat.
      shown: the parts of images and videos that the next question has.
    """

    def __init__(self, session: Session, say: Callable[[str], None]):
        self.messages: list[Message] = []
        self.shown: list[dict[str, str]] = []
        self.over = False
        self._session, self._say = session, say
        # The oldest message that the model saw when it gave each answer, and at the last question.
        self._firsts, self._tried = [0], 0

    def request(self, text: str) -> Request:
        """The request for an answer to a question, which does not become a part of it yet.

        If the context is full, the oldest questions leave it together with their answers.

        Raises:
          ContextFull: the question is too long even alone.
          ValueError: the question cannot be asked.
        """
        asked, first = [*self.messages, self._question(text)], self._firsts[-1]
        while True:
            try:
                request = self._session.request(PromptRow(None, asked[first:]))
                break
            except ContextFull:
                if first + 1 == len(asked):
                    raise
                first += 2
        if first > self._tried:
            what = "question and its" if first == 2 else f"{first // 2} questions and their"
            self._say(
                f"the context is full: the model no longer sees the oldest {what} "
                f"answer{'s' * (first > 2)}"
            )
        self._tried = first
        return request

    def add(self, text: str, turn: ModelTurn) -> None:
        """Adds the last question and the model's answer to it."""
        said = self._session.as_message(turn)
        self.messages += [self._question(text), said]
        self._firsts.append(self._tried)
        self.shown = []

    def show(self, part: dict[str, str]) -> None:
        """Shows an image or a video with the next question.

        Raises:
          ValueError: the model has no images, or it cannot be read.
        """
        [(kind, path)] = part.items() - {("type", part["type"])}
        part = part_of(kind, str(Path(path).expanduser().absolute()))  # for /save
        self._session.look([{"role": "user", "content": [part]}])
        self.shown.append(part)

    def _question(self, text: str) -> Message:
        return {"role": "user", "content": content_of(self.shown, text)}

    def obey(self, typed: Typed) -> bool:
        """Does what a command says.

        A text of one line that begins with a slash is a command, known or not. A text of several
        lines is one only if its first word is a known command.

        Returns:
          whether the text is a command. It is no message then, even if nothing was done.
        """
        text = typed.text.strip()
        match = re.fullmatch(r"(/\S*)\s*(.*)", text, re.DOTALL)
        if typed.quoted or match is None:
            return False
        name, rest = match.groups()
        if name not in COMMANDS:
            if "\n" in text:
                return False
            self._say(
                f"{name}: no such command. /help lists them, /exit ends the chat, and "
                f'"""{text}""" asks the model this text'
            )
        elif rest and name not in ("/system", "/save", "/image", "/video"):
            self._say(f"{name} takes nothing after it")
        else:
            getattr(self, f"_{name.removeprefix('/')}")(rest)
        return True

    def _exit(self, _: str) -> None:
        self.over = True

    def _clear(self, _: str) -> None:
        self.messages, self._firsts, self._tried, self.shown = [], [0], 0, []
        self._say("a new conversation begins")

    def _undo(self, _: str) -> None:
        if not self.messages:
            return self._say("there is nothing to undo")
        del self.messages[-2:]
        self._firsts.pop()
        left = len(self.messages) // 2
        self._say(f"the last question is undone; {left} {'are' if left != 1 else 'is'} left")

    def _image(self, name: str) -> None:
        self._attach("image", name)

    def _video(self, name: str) -> None:
        self._attach("video", name)

    def _attach(self, kind: str, name: str) -> None:
        if not name:
            return self._say(f"/{kind} needs a FILE")
        try:
            self.show(part_of(kind, name))
        except ValueError as error:
            return self._say(f"not shown: {' '.join(str(error).split())}")
        self._say(f"the next message shows {name}")

    def _system(self, text: str) -> None:
        if self.messages:  # /save would write it before answers to which it did not belong
            return self._say(
                "the system turn stays, because questions were asked with it: /clear forgets them, "
                "and /save FILE keeps them"
            )
        self._session.system = text or None
        self._say(f"the system turn is {'set' if text else 'removed'}")

    def _save(self, name: str) -> None:
        if not name or not self.messages:
            return self._say("/save needs a FILE" if self.messages else "there is nothing to save")
        system = self._session.system
        head = [] if system is None else [{"role": "system", "content": system}]
        record = {"messages": [*head, *self.messages]}
        line = json.dumps(record, ensure_ascii=False).encode() + b"\n"
        path = Path(name).expanduser()
        try:
            with open(path, "a+b") as file:
                file.seek(max(file.seek(0, 2) - 1, 0))
                whole = file.read(1) in (b"", b"\n")
                file.write(line if whole else b"\n" + line)
        except OSError as error:
            return self._say(f"not saved: {path}: {error.strerror or error}")
        count = len(self.messages) // 2
        what = "1 question and its" if count == 1 else f"{count} questions and their"
        self._say(f"{what} answer{'s' * (count > 1)} were added to {path}")

    def _help(self, _: str) -> None:
        for usage, meaning in HELP.items():
            self._say(f"{usage:14}{meaning}")
