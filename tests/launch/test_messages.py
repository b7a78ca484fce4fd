"""Messages survive every terminal: encodings without our characters, readers that leave, full disks."""

from __future__ import annotations

import errno
import io
import os
import sys

import pytest

from ddjax.launch import process
from ddjax.launch.flags import usage
from experiments import baselines, random_init

EXIT_OF_INPUT = 2


def written(encoding: str, text: str) -> bytes:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding=encoding)
    print(text, file=process.Surviving(stream), flush=True)
    return raw.getvalue()


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "cp437", "latin-1", "utf-8"])
def test_help_and_tables_can_be_written_in_every_encoding(encoding):
    text = usage(baselines.LAUNCHER.docstring or "", baselines.Config)
    assert "θ" in text
    assert len(written(encoding, text).splitlines()) == len(text.splitlines())


def test_what_an_encoding_lacks_is_spelled_out():
    assert (
        written("ascii", "79.5 ± 1.2 % over θ0 → φ, a class 猫")
        == b"79.5 +/- 1.2 % over theta0 -> phi, a class ?\n"
    )
    assert written("cp1252", "79.5 ± 1.2") == "79.5 ± 1.2\n".encode("cp1252")
    assert written("utf-8", "± θ0 猫") == "± θ0 猫\n".encode()
    assert written("ascii", "\udcff") == b"?\n", "a path that is no text"


class Failing(io.StringIO):
    def __init__(self, number: int):
        super().__init__()
        self.number, self.calls = number, 0

    def write(self, text: str) -> int:
        self.calls += 1
        raise OSError(self.number, os.strerror(self.number))


@pytest.mark.parametrize("number", [errno.EPIPE, errno.ENOSPC, errno.EIO])
def test_a_reader_that_leaves_and_a_full_disk_stop_messages_alone(number):
    failing = Failing(number)
    stream = process.Surviving(failing)
    for _ in range(3):
        print("a message", file=stream, flush=True)
    assert failing.calls == 1


def test_a_process_writes_on_after_its_reader_has_left():
    read, write = os.pipe()
    with os.fdopen(write, "w") as pipe:
        os.close(read)
        stream = process.Surviving(pipe)
        print("nobody reads this", file=stream, flush=True)
        print("nor this", file=stream, flush=True)
    # Closing the pipe flushes what is left; that it did not raise is the other half of the test.


def test_the_streams_of_a_process_are_its_own_again_afterwards():
    before = sys.stdout, sys.stderr
    with process.surviving_messages():
        assert isinstance(sys.stdout, process.Surviving)
        assert sys.stdout.isatty() is before[0].isatty()
    assert (sys.stdout, sys.stderr) == before


def test_an_error_of_output_is_no_fault_of_the_input():
    with pytest.raises(UnicodeEncodeError):
        process.guarded(lambda: "±".encode("ascii"))
    assert process.guarded(lambda: int("no number")) == EXIT_OF_INPUT


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_a_finished_command_exits_with_0_whatever_the_terminal(encoding, monkeypatch):
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding=encoding))
    monkeypatch.setattr(sys, "argv", ["random_init", "--help"])
    with pytest.raises(SystemExit) as end:
        random_init.LAUNCHER.main()
    assert end.value.code == 0
    assert b"--inner_steps" in raw.getvalue()


def test_a_stream_that_is_closed_drops_messages():
    closed = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    stream = process.Surviving(closed)
    assert stream.buffer is closed.buffer
    closed.close()
    print("a message", file=stream, flush=True)
