"""Calls in a helper process: what they return, and what they may not take."""

import concurrent.futures
import os
import signal

import pytest

from files.limited import Limited, LimitError
from files.limited_calls import DATA_OF_A_SECOND, MEMORY, SECONDS


@pytest.fixture
def limited():
    """Makes the Limited of one of the programs."""
    made = []

    def make(name: str) -> Limited:
        made.append(Limited(f"tests.files.programs:{name}"))
        return made[-1]

    yield make
    for each in made:
        each.close()


def test_a_call_returns_a_text(limited):
    echo = limited("echo")
    text = "ä\ud800\udc00\ud801\n\0"
    assert echo(text, data=(None, [1])) == f"{text}None[1]"
    large = "x" * 3_000_000
    assert echo(data=(large,)) == large
    assert echo() == ""


def test_calls_share_a_helper_and_threads_may_make_them(limited):
    echo = limited("echo")
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        assert list(pool.map(echo, range(200))) == list(map(str, range(200)))
    number = limited("number")
    assert number() == number() != str(os.getpid())


def test_too_much_time_ends_a_call_and_not_the_next(limited):
    work = limited("work")
    with pytest.raises(LimitError, match=r"^it takes too much time$"):
        work(20.0)
    assert work(0.0) == "done"


def test_too_much_memory_ends_a_call_and_not_the_next(limited):
    fill, size = limited("fill"), MEMORY + (50 << 20)
    with pytest.raises(LimitError, match=r"^it needs too much memory$"):
        fill(size)
    assert fill(1000) == "1000"


def test_the_limits_grow_with_the_data_of_the_user(limited):
    data = bytes(DATA_OF_A_SECOND)
    assert limited("work")(SECONDS + 0.1, data=(data,)) == "done"


def test_errors_of_a_function_are_one_line(limited):
    assert limited("nest")(10) == "done"
    with pytest.raises(ValueError, match=r"^it is nested too deeply$"):
        limited("nest")(10_000)
    with pytest.raises(ValueError, match=r"^nest\(\) missing 1 required positional argument"):
        limited("nest")()


def test_no_file_can_be_opened_and_no_connection(limited, tmp_path):
    (tmp_path / "secret").write_text("secret")
    with pytest.raises(ValueError, match="Too many open files"):
        limited("read")(str(tmp_path / "secret"))
    with pytest.raises(ValueError, match="Too many open files"):
        limited("connect")()


def test_a_helper_that_ends_is_named_and_replaced(limited):
    with pytest.raises(LimitError, match=r"^it ended the process that it ran in \(status 7\)$"):
        limited("leave")()
    number = limited("number")
    first = int(number())
    os.kill(first, signal.SIGKILL)
    number._process.wait()
    assert int(number()) != first


def test_ctrl_c_leaves_no_reply_behind(limited, monkeypatch):
    echo = limited("echo")
    assert echo("a") == "a"

    def press(pipe):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("files.limited.receive", press)
        with pytest.raises(KeyboardInterrupt):
            echo("b")
    assert echo("c") == "c"


def test_a_fork_starts_a_helper_of_its_own(limited):
    number = limited("number")
    first = number()
    number._owner = os.getpid() + 1  # as in a fork of the process that started it
    process = number._process
    assert number() != first
    assert process.poll() is None  # it is not the fork's to end
    process.kill()
    process.communicate()
