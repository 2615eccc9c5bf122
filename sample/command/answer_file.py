"""A file of answers, one JSON object in each line, that a later run can go on with."""

import collections
import json
import os
from pathlib import Path
from typing import Any

from files.json_text import read_json
from sample.command.answer import Answer, Request
from sample.command.checkpoint_id import LENGTH

START = b'{"row": '  # how every line begins


class AnswerFile:
    """Appends each answer to FILE.jsonl when it is there.

    A line has the fields "row" and "sample", "checksum", "checkpoint" (its folder as it was named)
    and "fingerprint" (what it holds), "answer", "thoughts", "tool_calls" (in OpenAI's form),
    "finish_reason", "prompt_tokens", "generated_tokens", "steps", "valid_tokens", and "drafts" if
    the sampler recorded them (see `Answer`). A row that is asked again in another way, or of
    another checkpoint, gets another line with another checksum. The row's number does not matter:
    rows may be added to the prompts or moved, and equal rows have as many lines as there are rows.

    Attributes:
      path: the file.
      old: number of answers in the file whose fingerprint is none of ours, because an older version
        wrote them. They stay, and no request matches them.

    Args:
      path: the file, in a folder that exists. Answers in it stay. A last line without a line end is
        an answer if it is whole. If a killed run has left it half-written, it is cut off when the
        next answer is written, or by `close`.

    Raises:
      OSError: the file cannot be read or written.
      ValueError: the file holds something else than answers.
    """

    def __init__(self, path: Path):
        self.path, self._size, self.old = path, 0, 0
        # (checksum, sample) -> the row of each answer, as it was when the row was asked.
        self._rows = collections.defaultdict[tuple[str, int], list[int | None]](list)
        folder = path.absolute().parent
        if not folder.is_dir():
            raise FileNotFoundError(2, "no such folder", str(folder))
        if path.exists() and not path.is_file():
            raise OSError(22, "not a regular file", str(path))
        if not os.access(path if path.exists() else folder, os.W_OK):
            raise PermissionError(13, "no permission to write here", str(path))
        *lines, rest = path.read_bytes().split(b"\n") if path.exists() else [b""]
        for number, line in enumerate(lines, 1):
            if line.strip() and not self._read(line):
                raise ValueError(f"{path}, line {number}: not an answer: choose a new file")
            self._size += len(line) + 1
        self._found = self._size + len(rest)  # bytes of the file as this run knows it
        self._end = b""  # what the last line still needs
        if self._read(rest):
            self._size, self._end = self._found, b"\n"
        elif _is_json(rest) or not (rest.startswith(START) or START.startswith(rest)):
            raise ValueError(f"{path}, line {len(lines) + 1}: not an answer: choose a new file")

    def _read(self, line: bytes) -> bool:
        """Takes in a line; returns whether it is an answer."""
        try:
            record: dict[str, Any] = read_json(line.decode())
            row, key = record["row"], (record["checksum"], record.get("sample", 0))
            if len(record.get("fingerprint", "")) == LENGTH:
                self._rows[key].append(row)
            else:
                self.old += 1
        except (ValueError, TypeError, KeyError, AttributeError):
            return False
        return True

    def rows(self, request: Request) -> list[int | None]:
        """The rows of the answers to a request and to its equals, as numbered when asked."""
        return self._rows.get((request.checksum, request.sample), [])

    def __contains__(self, request: Request) -> bool:
        return request.repeat < len(self.rows(request))

    def write(self, answer: Answer) -> None:
        """Appends one answer; if that fails with an OSError, the file is as before."""
        request, turn = answer.request, answer.turn
        record = {
            "row": request.number,
            "sample": request.sample,
            "checksum": request.checksum,
            "checkpoint": request.checkpoint.folder,
            "fingerprint": request.checkpoint.fingerprint,
            "answer": turn.answer,
            "thoughts": turn.thoughts,
            "tool_calls": [call.record() for call in turn.tool_calls],
            "finish_reason": answer.finish_reason,
            "prompt_tokens": len(request.tokens),
            "generated_tokens": answer.generated_tokens,
            "steps": answer.steps,
            "valid_tokens": answer.valid_tokens,
        }
        if answer.drafts is not None:
            record["drafts"] = answer.drafts
        self._append(json.dumps(record, ensure_ascii=False).encode() + b"\n")
        self._rows[request.checksum, request.sample].append(request.number)

    def close(self) -> None:
        """Mends the last line, if no answer that was written has done so."""
        if self._found > self._size or self._end:
            self._append(b"")

    def _append(self, line: bytes) -> None:
        line = self._end + line
        # Not "ab", because a line that a killed run left half-written must go first.
        with open(self.path, "r+b" if self.path.exists() else "xb", buffering=0) as file:
            if os.fstat(file.fileno()).st_size != self._found:
                what = "another program writes here too: give each run a file of its own"
                raise OSError(16, what, str(self.path))
            file.truncate(self._size)
            file.seek(self._size)
            self._found = self._size
            try:
                written = file.write(line)
                if written < len(line):
                    raise OSError(28, "no space left", str(self.path))
            except OSError:
                file.truncate(self._size)
                raise
        self._size += len(line)
        self._found, self._end = self._size, b""


def _is_json(line: bytes) -> bool:
    try:
        read_json(line.decode())
    except ValueError:
        return False
    return True
