"""Where a command's answers go: into a file, or to a terminal or a pipe."""

from sample.command.answer import Answer, Request
from sample.command.answer_file import AnswerFile
from sample.command.canvas_view import Draft
from sample.command.console import complain, counted, show


class Output:
    """Takes answers, and lines that are no answers.

    What a user should know of the file of answers is said on stderr.

    Attributes:
      draft: is taken off the screen before anything else is written there; None if there is none.

    Args:
      file: the file of answers; None for stdout.
      thoughts: whether to print the model's thoughts before its answer.
      samples: number of answers to each prompt. If there are several, each has a heading.
    """

    def __init__(self, file: AnswerFile | None, thoughts: bool, samples: int):
        self.draft: Draft | None = None
        self._file = file
        self._thoughts, self._samples = thoughts, samples
        # Numbers of answers: those that were in the file before, those of them whose row had
        # another number then, and new ones that --max-new-tokens has cut off.
        self._known = self._moved = self._cut = 0
        if file is not None and file.old:
            complain(
                f"{file.path} has {counted(file.old, 'answer')} of an older version, which did not "
                "look at the whole checkpoint: they stay, and their prompts are asked again"
            )

    def has(self, request: Request) -> bool:
        """Whether a request is answered in the file."""
        if self._file is None or request not in self._file:
            return False
        self._known += 1
        self._moved += self._file.rows(request)[request.repeat] != request.number
        return True

    def answer(self, answer: Answer) -> None:
        """Writes an answer."""
        self._cut += answer.finish_reason == "length"
        if self._file is not None:
            self._file.write(answer)
            return
        if self.draft:
            self.draft.clear()
        if self._samples > 1:
            place, sample = answer.request.place, f"sample {answer.request.sample}:"
            complain(f"{place}, {sample}" if place else sample)
        show(answer, self._thoughts)

    def say(self, line: str) -> None:
        """Writes a line on stderr."""
        if self.draft:
            self.draft.clear()
        complain(line)

    def close(self) -> None:
        """Takes the draft off the screen, and mends the file's last line."""
        if self.draft:
            self.draft.clear()
        if self._file is None:
            return
        self._file.close()
        if self._known:
            moved = f", {self._moved} of them with another row number" if self._moved else ""
            complain(f"{counted(self._known, 'answer')} found in {self._file.path}{moved}")
        if self._cut:
            complain(f"{counted(self._cut, 'answer')} cut off: --max-new-tokens=N allows more")
