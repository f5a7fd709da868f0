"""`wsgw connect` at a terminal: messages are shown in every state of the editor, and it holds nothing up."""

import contextlib
import os
import queue
import threading

import pytest

from harness import PATIENCE, PeerServer

# Keys after which the editor waits for more, and keys after which it waits for a line again.
STATES = {
    "ESC": ("\x1b", "x"),
    "half an escape sequence": ("\x1b[", "C"),
    "Tab": ("/\t", "\x03"),
    "Ctrl-R": ("\x12", "\x07"),
    "Ctrl-V": ("\x16", "x\x03"),
    "Ctrl-X": ("\x18", "\x07"),
    "Ctrl-]": ("\x1d", "x"),
    "Alt and a digit": ("\x1b5", "\x07"),
    "an open paste": ("\x1b[200~pasted", "\x1b[201~\x03"),
}


def at(t, text):
    """Whether this is the last that was written, wherever the cursor was in between."""
    return t.plain.replace("\r", "").endswith(text)


def silence(t):
    """Waits until nothing has been written for half a second."""
    seen = None
    while seen != t.text:
        seen = t.text
        t.read(0.5)


class Pushing:
    """A server that sends what a test says, and tells what it gets."""

    def __init__(self):
        self.got = queue.Queue()
        self.peer = None
        self.ready = threading.Event()
        self.server = PeerServer(self.handle)
        self.url = self.server.url

    def handle(self, peer):
        self.peer = peer.accept()
        self.ready.set()
        while True:
            opcode, payload = peer.read()
            if opcode == 8:
                peer.bye()
                return
            self.got.put((opcode, payload))

    def push(self, text):
        assert self.ready.wait(PATIENCE)
        self.peer.frame(1, text.encode())

    def next(self):
        return self.got.get(timeout=PATIENCE)


@contextlib.contextmanager
def pushing():
    server = Pushing()
    with server.server:
        yield server


@pytest.mark.parametrize("state", STATES)
def test_messages_are_shown_in_every_state_of_the_editor(terminal, state):
    keys, back = STATES[state]
    with pushing() as server:
        t = terminal(server.url)
        t.wait("* connected").type("an old line\r")
        assert server.next() == (1, b"an old line")
        t.wait_for(lambda: at(t, "> "), "a new prompt").type(keys)
        for i in range(3):
            server.push(f"news {i}")
            t.wait(f"< news {i}\r\n", 5)
        # Nothing of it goes into the line.
        t.type(back + "the end\r")
        assert server.next() in [(1, b"the end"), (1, b"xthe end")]
        t.type("\x04")
        assert t.exit() == 0


def test_a_lone_escape_key_does_not_swallow_the_next_one(terminal):
    with pushing() as server:
        t = terminal(server.url)
        t.wait("* connected").wait_for(lambda: at(t, "> "), "the prompt").type("\x1b")
        # The key is taken for itself once nothing has come for a while.
        silence(t)
        t.type("the end\r")
        assert server.next() == (1, b"the end")
        t.type("\x04")
        assert t.exit() == 0


@pytest.mark.parametrize("state", STATES)
def test_the_connection_never_waits_for_the_editor(terminal, state):
    """Once some hundred messages waited, pings were answered no more."""
    keys, _ = STATES[state]
    with pushing() as server:
        t = terminal(server.url)
        t.wait("* connected").type("an old line\r")
        assert server.next() == (1, b"an old line")
        t.wait_for(lambda: at(t, "> "), "a new prompt").type(keys)
        for i in range(1000):
            server.push(f"news {i} " + "x" * 100)
        server.peer.frame(9, b"still there?")
        t.wait("< news 999 ", 20)
        assert server.next() == (10, b"still there?")
        server.peer.bye(1000)
        assert t.exit(5) == 0


def test_a_line_in_several_rows_is_moved_down_whole(terminal):
    with pushing() as server:
        t = terminal(server.url)
        t.resize(20).wait("* connected")
        typed = "abcdefghij" * 4
        t.type(typed + "\x1b[D\x1b[D\x16").wait_for(lambda: t.plain.count("j") >= 4, "the line")
        silence(t)
        before = len(t.text)
        server.push("news")
        t.wait("< news\r\n", 5)
        t.wait_for(lambda: t.text[before:].count("j") >= 4, "the line again")
        moved = t.text[before:]
        # 42 columns in rows of 20: the cursor was in the third row, and is again.
        assert "\x1b[2A\r\x1b[J< news\r\n> abc" in moved, moved
        assert "\x1b[1A" not in moved.split("< news")[1] and "\x1b[C" not in moved
        t.type("X\r")
        assert server.next() == (1, (typed[:-2] + "X" + typed[-2:]).encode())
        t.type("\x04")
        assert t.exit() == 0


def test_keys_that_are_not_utf_8_do_not_end_it(terminal):
    with pushing() as server:
        t = terminal(server.url)
        t.wait("* connected").type("half ").wait("half ")
        os.write(t.fd, b"\xfc\x80")
        t.wait("not UTF-8").type("line\r")
        assert server.next() == (1, b"half line")
        t.type("\x04")
        assert t.exit() == 0


@pytest.mark.parametrize("name", ["dumb", "emacs"])
def test_a_dumb_terminal_gets_lines_of_their_own(terminal, name):
    with pushing() as server:
        t = terminal(server.url, TERM=name, NO_COLOR="")
        t.wait("* connected").wait("> ").type("half").wait("half")
        server.push("news")
        t.wait("\r\n< news\r\n> ")
        assert "half<" not in t.text and "\x1b" not in t.text
        t.type(" line\r")
        assert server.next() == (1, b"half line")
        t.type("\x04")
        assert t.exit() == 0 and "\x1b" not in t.text
