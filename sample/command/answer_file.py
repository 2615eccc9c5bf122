"""A file of answers, one JSON object in each line, that a later run can go on with."""

import json
import os
from pathlib import Path

from sample.command.answer import Answer, Request

START = b'{"row": '  # how every line begins


class AnswerFile:
    """Appends each answer to FILE.jsonl when it is there.

    A line has the fields "row" and "sample", "checksum", "checkpoint" (its folder as it was named)
    and "fingerprint" (what it holds), "answer", "thoughts", "tool_calls" (in OpenAI's form),
    "finish_reason", "prompt_tokens", "generated_tokens", "steps", "valid_tokens", and "drafts" if
    the sampler recorded them (see `Answer`). A row that is asked again in another way, or of
    another checkpoint, gets another line with another checksum.

    Attributes:
      unnamed: number of answers in the file that do not say which checkpoint they are of, because
        an older version wrote them. They stay, and no request matches them.

    Args:
      path: the file, in a folder that exists. Answers in it stay. If a killed run has left the last
        line half-written, the next answer is written over that line.

    Raises:
      OSError: the file cannot be read or written.
      ValueError: the file holds something else than answers.
    """

    def __init__(self, path: Path):
        self._path, self._done, self._size, self.unnamed = path, set(), 0, 0
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
                key = record["row"], record.get("sample", 0), record["checksum"]
                if "fingerprint" in record:
                    self._done.add(key)
                else:
                    self.unnamed += 1
            except (ValueError, TypeError, KeyError, RecursionError):
                raise ValueError(
                    f"{path}, line {number}: not an answer: choose a new file"
                ) from None
            self._size += len(line) + 1
        if not (rest.startswith(START) or START.startswith(rest)):
            raise ValueError(f"{path}: not a file of answers: choose a new one")
        self._found = self._size + len(rest)  # bytes of the file as this run knows it

    def __contains__(self, request: Request) -> bool:
        return _key(request) in self._done

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
        line = json.dumps(record, ensure_ascii=False).encode() + b"\n"
        # Not "ab", because a line that a killed run left half-written must go first.
        with open(self._path, "r+b" if self._path.exists() else "xb", buffering=0) as file:
            if os.fstat(file.fileno()).st_size != self._found:
                what = "another program writes here too: give each run a file of its own"
                raise OSError(16, what, str(self._path))
            file.truncate(self._size)
            file.seek(self._size)
            self._found = self._size
            try:
                written = file.write(line)
                if written < len(line):
                    raise OSError(28, "no space left", str(self._path))
            except OSError:
                file.truncate(self._size)
                raise
        self._size += len(line)
        self._found = self._size
        self._done.add(_key(request))


def _key(request: Request) -> tuple[int | None, int, str]:
    return request.number, request.sample, request.checksum
