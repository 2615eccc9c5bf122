"""A file of answers, one JSON object in each line, that a later run can go on with."""

import json
import os
from pathlib import Path

from sample.command.session import Answer, Request

START = b'{"row": '  # how every line begins


class AnswerFile:
    """Appends each answer to FILE.jsonl when it is there.

    A line has the fields "row", "checksum", "answer", "thoughts", "tool_calls", "steps",
    "valid_tokens", and "drafts" if the sampler recorded them (see `Answer`). A row that is asked
    again in another way gets another line, with another checksum.

    Args:
      path: the file, in a folder that exists. Answers in it stay. If a killed run has left the last
        line half-written, the next answer is written over that line.

    Raises:
      OSError: the file cannot be read or written.
      ValueError: the file holds something else than answers.
    """

    def __init__(self, path: Path):
        self._path, self._done, self._size = path, set(), 0
        folder = path.absolute().parent
        if not folder.is_dir():
            raise FileNotFoundError(2, "no such folder", str(folder))
        if path.exists() and not path.is_file():
            raise OSError(22, "not a regular file", str(path))
        if not os.access(path if path.exists() else folder, os.W_OK):
            raise PermissionError(13, "no permission to write here", str(path))
        *lines, rest = path.read_bytes().split(b"\n") if path.exists() else [b""]
        for number, line in enumerate(lines, 1):
            try:
                record = json.loads(line)
                self._done.add((record["row"], record["checksum"]))
            except (ValueError, TypeError, KeyError, RecursionError):
                raise ValueError(
                    f"{path}, line {number}: not an answer: choose a new file"
                ) from None
            self._size += len(line) + 1
        if not (rest.startswith(START) or START.startswith(rest)):
            raise ValueError(f"{path}: not a file of answers: choose a new one")

    def __contains__(self, request: Request) -> bool:
        return (request.number, request.checksum) in self._done

    def write(self, answer: Answer) -> None:
        """Appends one answer; if that fails with an OSError, the file is as before."""
        request, turn = answer.request, answer.turn
        record = {
            "row": request.number,
            "checksum": request.checksum,
            "answer": turn.answer,
            "thoughts": turn.thoughts,
            "tool_calls": [call.record() for call in turn.tool_calls],
            "steps": answer.steps,
            "valid_tokens": answer.valid_tokens,
        }
        if answer.drafts is not None:
            record["drafts"] = answer.drafts
        line = json.dumps(record, ensure_ascii=False).encode() + b"\n"
        # Not "ab", because a line that a killed run left half-written must go first.
        with open(self._path, "r+b" if self._path.exists() else "xb", buffering=0) as file:
            file.truncate(self._size)
            file.seek(self._size)
            try:
                written = file.write(line)
                if written < len(line):
                    raise OSError(28, "no space left", str(self._path))
            except OSError:
                file.truncate(self._size)
                raise
        self._size += len(line)
        self._done.add((request.number, request.checksum))
