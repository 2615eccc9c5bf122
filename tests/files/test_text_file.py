"""Text files of a checkpoint's folder, and those that are refused in words."""

import pytest

from files.text_file import read_text


def test_a_byte_order_mark_is_left_out(tmp_path):
    file = tmp_path / "a"
    file.write_bytes("\ufefffür".encode())
    assert read_text(file) == "für"


@pytest.mark.parametrize(
    ("data", "error"),
    [
        ("a".encode("utf-16"), "UTF-16 text: save it as UTF-8"),
        (b"\xff", "no UTF-8 text: save it as UTF-8"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a pointer of git-lfs and not the file"),
        (b"\n<!DOCTYPE html>", "a web page and not the file: download it again"),
        (b"<html>", "a web page and not the file"),
    ],
)
def test_files_that_are_refused(tmp_path, data, error):
    file = tmp_path / "a"
    file.write_bytes(data)
    with pytest.raises(ValueError, match=f"^{file}: {error}"):
        read_text(file)
