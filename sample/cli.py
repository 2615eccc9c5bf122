"""What the commands share: hyphens in flags, one-line errors, --nojit, and a check of --out."""

import contextlib
import os
import platform
import re
import sys
from collections.abc import Callable
from pathlib import Path

import flax
import jax
import numpy as np
from absl import flags

from files.fields import INT32, LARGEST_SEED, is_finite, shown
from files.printable import tell
from sample.config_file import config_fault

# Two dashes or one, a name, the field of a config that follows a dot, and the value.
FLAG = re.compile(r"(--?)(\w[\w-]*)(\.[\w.-]+)?(=.*)?", re.DOTALL)
# What Python and absl say of a value that cannot be read -> what a user is told.
NO_VALUE = {
    r"invalid literal for int\(\) with base \d+: .*": "expected a whole number",
    "could not convert string to float: .*": "expected a number",
    r"\('Non-boolean argument to boolean flag', .*\)": "expected true or false",
    r".*(An overflow was encountered while parsing|int too large to convert).*": (
        "a number is too large: whole numbers have up to 32 bits, so at most 2147483647"
    ),
    r"Configuration is not available.*No such file or directory: '(.*)'": r"\1: no such file",
}


def define_jit(values: flags.FlagValues) -> None:
    """Defines --jit. With --nojit, `run` calls the command under `jax.disable_jit()`.

    Nothing is compiled as a whole then: each operation runs when Python comes to it, loops are
    Python loops, and print or a debugger sees the numbers of every step. It takes a hundred times
    as long or more, so use a tiny model, few steps and small batches.
    """
    help = (
        "Compile the computations. --nojit runs them one by one, a hundred times slower, so that "
        "print and debuggers see every number."
    )
    flags.DEFINE_boolean("jit", True, help, flag_values=values)


def define_seed(values: flags.FlagValues, default: int | None, help: str) -> None:
    """Defines --seed."""
    flags.DEFINE_integer(
        "seed", default, help, lower_bound=0, upper_bound=LARGEST_SEED, flag_values=values
    )


def run(
    values: flags.FlagValues, main: Callable[[], int | None], argv: list[str], usage: str
) -> int:
    """Parses argv and calls a command.

    Args:
      values: the command's flags; they get the values in argv.
      main: the command; returns its exit status, None for 0.
      argv: the command line, beginning with the program's name. Names of flags may have hyphens.
      usage: what --help prints before the flags.

    Returns:
      the exit status. Faults in flags, input or output (ValueError, OSError, too little memory)
      become one line on stderr and status 2.
    """
    for name in ("stdin", "stdout", "stderr"):  # None if closed, with <&- in a shell
        if getattr(sys, name) is None:
            null = os.open(os.devnull, os.O_RDWR)
            setattr(sys, name, os.fdopen(null, "r" if name == "stdin" else "w"))
    try:
        if {"--help", "-h", "-help"}.intersection(argv):
            print(f"{usage}\n{with_hyphens(values.get_help(), values)}", flush=True)
            return 0
        try:
            rest = values(with_underscores(argv, values))[1:]
        except flags.Error:
            raise
        except Exception as error:
            if fault := config_fault(error):
                raise ValueError(fault) from None
            if not isinstance(error, AttributeError | KeyError):
                raise
            # From ml_collections, for --config.unknown=1.
            cause = error.args[0]
            text = cause.args[0] if isinstance(cause, KeyError) else cause
            raise ValueError(f"no such config field: {' '.join(text.split())}") from None
        if rest:
            raise ValueError(f"unexpected argument '{rest[0]}': a text with spaces needs quotes")
        check_numbers(values)
        jitted = "jit" not in values or values.jit
        with contextlib.nullcontext() if jitted else jax.disable_jit():
            return main() or 0
    except KeyboardInterrupt:
        tell("interrupted")
        return 130
    except BrokenPipeError:  # the reader of the output has closed it
        with contextlib.suppress(OSError):  # buffered output has nowhere to go
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except flags.Error as error:
        return fail(ValueError(with_hyphens(str(error), values)))
    except (ValueError, ArithmeticError, OSError, MemoryError) as error:
        return fail(error)
    except RuntimeError as error:  # JAX has no error class for too little memory
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        return fail(RuntimeError("out of memory: use a smaller --batch-size"))


def check_numbers(values: flags.FlagValues) -> None:
    """Checks that the numbers of flags are finite, and small enough for JAX.

    A flag with a range of its own, or with a larger default, may have larger whole numbers.

    Raises:
      ValueError: a number is not.
    """
    for name in values:
        if "." in name:  # a field of a config, which has a range of its own
            continue
        flag = values[name]
        own = getattr(flag.parser, "upper_bound", None) is not None
        larger = isinstance(flag.default, int) and flag.default not in INT32
        for value in flag.value if isinstance(flag.value, list | tuple) else [flag.value]:
            shown_name = f"--{name.replace('_', '-')}"
            if isinstance(value, float) and not is_finite(value):
                raise ValueError(f"{shown_name}={value}: expected a finite number")
            if type(value) is int and not own and not larger and value not in INT32:
                ends = f"{INT32.start} to {INT32.stop - 1}"
                raise ValueError(f"{shown_name}: expected a number from {ends}, got {shown(value)}")


def with_underscores(argv: list[str], values: flags.FlagValues) -> list[str]:
    """The command line with the names of known flags as absl knows them.

    --batch-size=8 becomes --batch_size=8, --config.batch-size=8 becomes --config.batch_size=8, and
    --no-early-stop becomes --noearly_stop. Values, unknown names and everything after "--" stay as
    they are.

    Args:
      argv: the command line, beginning with the program's name.
      values: the command's flags.
    """
    result, value_follows = argv[:1], False
    for position, argument in enumerate(argv[1:], 1):
        if argument == "--":
            return result + argv[position:]
        match = None if value_follows else FLAG.fullmatch(argument)
        value_follows = False
        if match:
            dashes, typed, field, value = match.groups(default="")
            name = _known_name(typed.replace("-", "_"), values)
            value_follows = name in values and not (values[name].boolean or field or value)
            argument = f"{dashes}{name or typed}{field.replace('-', '_')}{value}"
        result.append(argument)
    return result


def with_hyphens(text: str, values: flags.FlagValues) -> str:
    """A text of absl in which the names of flags have hyphens, as users write them."""

    def name(found: re.Match) -> str:
        return found[0].replace("_", "-") if found[0] in values else found[0]

    return re.sub(r"\b[a-z]+(_[a-z]+)+\b", name, text)


def _known_name(name: str, values: flags.FlagValues) -> str | None:
    """A name of a flag, or of a switch after "no"; None if there is no such flag."""
    switch = re.sub(r"\Ano_?", "", name)
    if name in values:
        return name
    return f"no{switch}" if switch in values and values[switch].boolean else None


def fail(error: BaseException) -> int:
    """Tells an error in one line on stderr; returns the exit status 2."""
    message = str(error)
    if isinstance(error, OSError) and error.strerror:
        message = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    for python, ours in NO_VALUE.items():
        message = re.sub(python, ours, message, flags=re.DOTALL)
    tell(f"error: {' '.join(message.split()) or type(error).__name__}")
    return 2


def check_out(out: Path) -> None:
    """Checks that files can be written into a folder, which need not be there yet.

    It makes nothing. Call it before hours of work.

    Raises:
      OSError: `out` is no folder and cannot become one, or must not be written to.
    """
    existing = next(p for p in (out, *out.absolute().parents) if p.exists())
    if not existing.is_dir():
        raise NotADirectoryError(20, "not a folder", str(existing))
    if not os.access(existing, os.W_OK | os.X_OK):
        raise PermissionError(13, "no permission to write here", str(existing))


def device_line() -> str:
    """One line that names the device, and the versions of Python, JAX, Flax and NumPy."""
    device = jax.devices()[0]
    name = device.device_kind
    if device.platform == "cpu":
        name = f"CPU ({platform.machine()}, {os.cpu_count()} cores)"
    return (
        f"{name}; Python {platform.python_version()}, jax {jax.__version__}, "
        f"flax {flax.__version__}, numpy {np.__version__}"
    )
