"""Where a command's answers go: into a file, or to a terminal or a pipe."""

from sample.command.answer import Answer, Request
from sample.command.answer_file import AnswerFile
from sample.command.canvas_view import Draft
from sample.command.console import complain, show


class Output:
    """Takes answers, and lines that are no answers.

    Args:
      file: the file of answers; None for stdout.
      draft: is taken off the screen before anything else is written there; None if there is none.
      thoughts: whether to print the model's thoughts before its answer.
      samples: number of answers to each prompt. If there are several, each has a heading.

    Attributes:
      known: number of requests whose answers were in the file before.
    """

    def __init__(self, file: AnswerFile | None, draft: Draft | None, thoughts: bool, samples: int):
        self._file, self._draft = file, draft
        self._thoughts, self._samples = thoughts, samples
        self.known = 0

    def has(self, request: Request) -> bool:
        """Whether a request is answered in the file; counts those that are."""
        found = self._file is not None and request in self._file
        self.known += found
        return found

    def answer(self, answer: Answer) -> None:
        """Writes an answer."""
        if self._file is not None:
            self._file.write(answer)
            return
        if self._draft:
            self._draft.clear()
        if self._samples > 1:
            line, sample = answer.request.number, answer.request.sample
            complain(f"sample {sample}:" if line is None else f"line {line}, sample {sample}:")
        show(answer, self._thoughts)

    def say(self, line: str) -> None:
        """Writes a line on stderr."""
        if self._draft:
            self._draft.clear()
        complain(line)
