"""What a person sees: plain lines without a terminal, names as they stand, nothing when quiet."""

import io
import re

import pytest
from rich.console import Console

from neurodense import screen as module
from neurodense.screen import Screen, duration

NAMES = ["[red]x", "[/]", "[bold]a[/bold].png", ":brain:.png", "back\\slash\\", "[link=http://x]y", "a{task.total}%"]


def plain(width=80):
    return Screen(Console(file=io.StringIO(), width=width, highlight=False))


class Terminal(io.StringIO):
    def isatty(self):
        return True


def terminal():
    return Screen(Console(file=Terminal(), width=120, highlight=False, color_system="standard"))


def said(screen):
    return screen.console.file.getvalue()


def seen(screen):
    """What is on the terminal, without the codes that colour it and move about."""
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", said(screen))


@pytest.fixture(autouse=True)
def _surroundings(monkeypatch):
    """What the tests run in has no say."""
    monkeypatch.setenv("TERM", "xterm-256color")
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def clock(monkeypatch):
    """Time that passes when it is told to."""

    class Clock:
        now = 1000.0

        def monotonic(self):
            return self.now

    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock


@pytest.mark.parametrize("name", NAMES)
def test_names_are_shown_as_they_stand(name):
    screen = plain()
    screen.say(f"reading {name}")
    screen.warn(f"left out: {name}")
    assert said(screen) == f"reading {name}\nwarning: left out: {name}\n"
    screen = terminal()
    screen.say(name)
    screen.warn(name)
    assert seen(screen) == f"{name}\nwarning: {name}\n"


def test_a_long_line_is_not_broken():
    screen = plain(width=20)
    screen.say("a long path " * 20)
    screen.warn("/a/long/path" * 20)
    assert said(screen).count("\n") == 2


def test_a_warning_is_coloured_on_a_terminal_only():
    one, other = plain(), terminal()
    one.warn("x")
    other.warn("x")
    assert "\x1b" not in said(one)
    assert "\x1b[33mwarning:" in said(other)


def test_quiet():
    screen = Screen()
    screen.say("x")
    with pytest.warns(UserWarning, match="x"):  # a library's user hears of what must not be overlooked
        screen.warn("x")
    with screen.bar("x", 2, "images") as bar:
        bar.advance(1, "note")
        bar.reach(3, 3)
    assert not screen.live


def test_quiet_writes_nothing(capfd):
    test_quiet()
    assert capfd.readouterr() == ("", "")


def test_the_command_lines_screen_leaves_standard_output_free(capfd):
    screen = Screen.on_stderr()
    screen.say("x")
    out, err = capfd.readouterr()
    assert (out, err) == ("", "x\n")


def test_a_bar_without_a_terminal_is_a_line_now_and_then(clock):
    screen = plain()
    with screen.bar("epoch [1]", 1200, "images") as bar:
        bar.advance(100)
        assert said(screen) == ""
        clock.now += 20
        bar.advance(200, "loss 0.5")
        assert said(screen) == "  epoch [1]: 300/1,200 images, 1 min 00 s left  loss 0.5\n"
        clock.now += 1
        bar.advance(100)
        assert said(screen).count("\n") == 1
        clock.now += 19
        bar.advance(800)
    assert said(screen).splitlines()[1] == "  epoch [1]: 1,200/1,200 images, 0 s left"
    assert "\x1b" not in said(screen)


def test_a_bar_in_a_pipe_is_plain_lines_even_where_colour_is_forced(monkeypatch, clock):
    monkeypatch.setenv("FORCE_COLOR", "1")
    screen = plain()
    assert screen.console.is_terminal
    assert not screen.live
    with screen.bar("reading", 4, "images") as bar:
        clock.now += 20
        bar.advance(2)
    assert said(screen) == "  reading: 2/4 images, 20 s left\n"


def test_a_bar_that_has_not_begun_says_no_time_left(clock):
    screen = plain()
    with screen.bar("reading", 1, "images") as bar:
        clock.now += 20
        bar.reach(0, 500)
        clock.now += 20
        bar.reach(250, 500)
    assert said(screen) == "  reading: 0/500 images\n  reading: 250/500 images, 40 s left\n"


@pytest.mark.parametrize("name", NAMES)
def test_a_bar_on_a_terminal_shows_names_as_they_stand(name):
    screen = terminal()
    assert screen.live
    with screen.bar(f"title {name}", 10, "images") as bar:
        bar.advance(3, f"note {name}")
        bar.reach(5, 20)
        bar.advance(2, f"note {name}")
        bar._progress.refresh()
    shown = seen(screen)
    for part in (f"title {name}", f"note {name}", "7/20", "images"):
        assert part in shown


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"), (0.4, "0 s"), (59.4, "59 s"), (59.6, "1 min 00 s"), (200, "3 min 20 s"), (3599.4, "59 min 59 s"),
        (3599.6, "1 h 00 min"), (3900, "1 h 05 min"), (90_000, "25 h 00 min"),
    ],
)  # fmt: skip
def test_duration(seconds, text):
    assert duration(seconds) == text
