"""The line that says how far some work is: in a log, on a terminal, in a notebook, or not at all."""

import io
import sys
import types

from ddjax.progress import Progress, is_watched


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_progress_in_a_log_comes_every_ten_seconds():
    stream, clock = io.StringIO(), Clock()
    with Progress(1000, stream=stream, clock=clock) as progress:
        progress.update(100, loss=2.0)
        for step in range(140, 1001, 40):
            clock.now += 4
            progress.update(step, loss=0.842, lrs=[0.034, 0.012], val_accuracy=71.2 if step == 180 else None)
    lines = stream.getvalue().splitlines()
    assert lines[0] == "step 100/1000  loss 2"
    line = "step 220/1000  loss 0.842  lr 0.012..0.034  val 71.2 %  10 steps/s  time left 1m18s"
    assert lines[1] == line
    assert [line.split("/")[0] for line in lines[2:]] == [f"step {step}" for step in range(340, 1000, 120)]


def test_progress_shows_the_last_step_at_once():
    stream, clock = io.StringIO(), Clock()
    progress = Progress(2, stream=stream, clock=clock)
    progress.update(1)
    clock.now += 0.5
    progress.update(2, lrs=[])
    progress.close()
    assert stream.getvalue().splitlines() == ["step 1/2", "step 2/2  2 steps/s"]


def test_progress_on_a_terminal_rewrites_one_line(monkeypatch):
    monkeypatch.setenv("COLUMNS", "20")
    stream, clock = Terminal(), Clock()
    with Progress(10, stream=stream, clock=clock) as progress:
        progress.update(1, loss=0.5, lrs=[0.1])
        clock.now += 0.01
        progress.update(2, loss=0.4)
        clock.now += 1
        progress.update(3)
    assert stream.getvalue() == "\rstep 1/10  loss 0.5\rstep 3/10  1.98 ste\n"


def test_quiet_progress_shows_nothing():
    stream = Terminal()
    with Progress(1, quiet=True, stream=stream) as progress:
        progress.update(1, loss=1.0)
    assert stream.getvalue() == ""


def test_short_work_shows_nothing_and_long_work_leaves_nothing_on_a_terminal():
    stream, clock = Terminal(), Clock()
    with Progress(3, unit="network", patience=2, is_kept=False, stream=stream, clock=clock) as progress:
        progress.update(0)
        clock.now += 1.5
        progress.update(1)
        assert stream.getvalue() == ""
        clock.now += 1.5
        progress.update(2)
    line = "network 2/3  0.667 networks/s  time left 2s"
    assert stream.getvalue() == f"\r{line}\r{' ' * len(line)}\r"


def test_a_text_of_its_own_does_not_continue_the_line():
    stream, clock = Terminal(), Clock()
    with Progress(3, stream=stream, clock=clock) as progress:
        progress.update(1)
        progress.say("rolled back")
    assert stream.getvalue() == "\rstep 1/3\nrolled back\n"


def test_who_watches(monkeypatch):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    assert not is_watched()
    monkeypatch.setattr(sys, "stderr", Terminal())
    assert is_watched()
    monkeypatch.setattr(sys, "stderr", None)
    assert not is_watched()
    Progress(1).update(1)  # where there is no stream there is nothing to write to
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    shell = types.SimpleNamespace(kernel=object())
    monkeypatch.setitem(sys.modules, "IPython", types.SimpleNamespace(get_ipython=lambda: shell))
    assert is_watched()
