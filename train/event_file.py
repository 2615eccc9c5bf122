"""TensorBoard's files of events, of which each is written whole and at once."""

import socket
import struct
import time
from pathlib import Path

from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.record_writer import masked_crc32c
from tensorboardX.summary import scalar

from files.whole_file import GrowingFile, write_file


class EventFile:
    """A new file of events. TensorBoard joins all such files of a folder, in the order of time.

    tensorboardX's own writer is not used: it writes from a thread, and when that meets a full disk,
    it prints a traceback and the program waits for ever.

    Args:
      folder: the folder, which is made if it is not there.
      purge_step: TensorBoard forgets the events of this step and of later ones in older files; None
        to forget nothing.

    Raises:
      OSError: the file cannot be made. Nothing is left of it.
    """

    def __init__(self, folder: Path, purge_step: int | None = None) -> None:
        path = folder / f"events.out.tfevents.{time.time():.6f}.{socket.gethostname()}"
        first = [Event(file_version="brain.Event:2")]
        if purge_step is not None:
            start = SessionLog(status=SessionLog.START)
            first.append(Event(step=purge_step, session_log=start))
        write_file(path, b"".join(map(_record, first)))
        self._file = GrowingFile(path)

    def write(self, step: int, figures: dict[str, float]) -> None:
        """Writes figures of a step. If that fails with an OSError, the file is as before."""
        events = (Event(step=step, summary=scalar(name, x)) for name, x in figures.items())
        self._file.add(b"".join(map(_record, events)))

    def close(self) -> None:
        """Closes the file."""
        self._file.close()


def _record(event: Event) -> bytes:
    """An event in the form of TensorFlow's records, with the time of now."""
    event.wall_time = time.time()
    data = event.SerializeToString()
    length = struct.pack("<Q", len(data))
    sums = (struct.pack("<I", masked_crc32c(part)) for part in (length, data))
    return b"".join((length, next(sums), data, next(sums)))
