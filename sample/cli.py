"""What the mains share: flags, one-line errors, a check of the folder for results."""

import contextlib
import os
import platform
import sys
from collections.abc import Callable
from pathlib import Path

import flax
import jax
import numpy as np
from absl import flags


def run(
    values: flags.FlagValues, main: Callable[[], int | None], argv: list[str], usage: str
) -> int:
    """Parses argv into values, calls main and returns the exit status: main's, 0 for None.

    What is wrong with flags, input or output (ValueError, OSError, memory) becomes one line on
    stderr and status 2.
    """
    try:
        if {"--help", "-h", "-help"}.intersection(argv):
            print(f"{usage}\n{values.get_help()}", flush=True)
            return 0
        try:
            rest = values(argv)[1:]
        except (AttributeError, KeyError) as error:  # ml_collections' own, for --config.unknown=1
            cause = error.args[0]
            text = cause.args[0] if isinstance(cause, KeyError) else cause
            raise ValueError(f"no such config field: {' '.join(text.split())}") from None
        if rest:
            raise ValueError(f"unexpected argument '{rest[0]}'")
        return main() or 0
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # whoever reads the output has enough
        with contextlib.suppress(OSError):  # what is still buffered has nowhere to go
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (ValueError, ArithmeticError, OSError, MemoryError, flags.Error) as error:
        return fail(error)
    except RuntimeError as error:  # JAX has no class of its own for this
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        return fail(RuntimeError("out of memory: use a smaller --batch_size"))


def fail(error: BaseException) -> int:
    """Tells an error in one line on stderr; returns the exit status 2."""
    message = str(error)
    if isinstance(error, OSError) and error.strerror:
        message = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    print(f"error: {' '.join(message.split()) or type(error).__name__}", file=sys.stderr)
    return 2


def check_out(out: Path) -> None:
    """Raises OSError unless `out` is a folder, or can become one, in which files can be written.

    Called before hours of work; makes nothing.
    """
    existing = next(p for p in (out, *out.absolute().parents) if p.exists())
    if not existing.is_dir():
        raise NotADirectoryError(20, "not a folder", str(existing))
    if not os.access(existing, os.W_OK | os.X_OK):
        raise PermissionError(13, "no permission to write here", str(existing))


def device_line() -> str:
    """What figures depend on: the device, and the versions of what computes on it."""
    device = jax.devices()[0]
    name = device.device_kind
    if device.platform == "cpu":
        name = f"CPU ({platform.machine()}, {os.cpu_count()} cores)"
    return (
        f"{name}; Python {platform.python_version()}, jax {jax.__version__}, "
        f"flax {flax.__version__}, numpy {np.__version__}"
    )
