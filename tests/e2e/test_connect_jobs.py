"""`wsgw connect` as a job of a shell: stopped, continued, in the background, hung up."""

import contextlib
import os
import queue
import signal
import termios
import threading

import pytest

from harness import PATIENCE, WSGW, PeerServer, echo, wait_until, ws_server

SHELLS = {"bash": ["bash", "--norc", "--noprofile", "-i"], "dash": ["dash", "-i"]}


def at(t, text):
    """Whether this is the last that was written, wherever the cursor was in between."""
    return t.plain.replace("\r", "").endswith(text)


def cooked(t):
    """Whether the terminal echoes, edits lines and sends signals."""
    wanted = termios.ICANON | termios.ECHO | termios.ISIG
    return t.attributes()[3] & wanted == wanted


def raw(t):
    return not t.attributes()[3] & (termios.ICANON | termios.ECHO | termios.ISIG)


@contextlib.contextmanager
def pushing():
    """A URL, and a function that sends a text to the client."""
    peers = queue.Queue()

    def handler(ws):
        peers.put(ws)
        echo(ws)
    held = []

    def push(text):
        if not held:
            held.append(peers.get(timeout=PATIENCE))
        held[0].send(text)
    with ws_server(handler) as url:
        yield url, push


def job(terminal, shell, url):
    """A shell whose foreground job is `wsgw connect` with a half-typed line."""
    t = terminal(command=SHELLS[shell], PS1="PROMPT ")
    t.wait("PROMPT ").type(f"{WSGW} connect {url}\r").wait("* connected").type("ha")
    t.wait_for(lambda: at(t, "> ha"), "the line")
    return t


def stopped(t, shell):
    prompts = t.plain.count("PROMPT ")
    t.wait_for(lambda: t.plain.count("PROMPT ") > prompts or at(t, "PROMPT "), "the shell's prompt")
    if shell == "dash":
        wait_until(lambda: cooked(t), "a terminal as the shell had it")


@pytest.mark.parametrize("shell", SHELLS)
def test_the_terminal_is_the_shells_while_the_job_is_stopped(terminal, shell):
    with pushing() as (url, push):
        t = job(terminal, shell, url)
        t.type("\x1a").wait("Stopped")
        stopped(t, shell)
        push("meanwhile")
        t.type("echo typed $((40 + 2))\r").wait("typed 42")
        before = len(t.plain)
        t.type("fg\r")
        # Raw again at once, the line drawn anew, and what came meanwhile is above it.
        wait_until(lambda: t.read() and raw(t), "the raw mode")
        t.wait_for(lambda: "< meanwhile\r\n" in t.plain[before:], "the message")
        t.wait_for(lambda: at(t, "> ha"), "the line again")
        t.type("lf\r").wait("< half\r\n")
        assert "halfhalf" not in t.plain and "hahalf" not in t.plain
        t.type("\x03").wait_for(lambda: at(t, "PROMPT "), "the shell")
        t.type("echo $?$?\r").wait("130130")
        t.type("exit\r")
        t.exit()


@pytest.mark.parametrize("shell", SHELLS)
def test_a_job_that_was_stopped_from_outside_goes_on(terminal, shell):
    with pushing() as (url, push):
        t = job(terminal, shell, url)
        group = os.tcgetpgrp(t.fd)
        os.kill(group, signal.SIGSTOP)
        t.wait("Stopped")
        wait_until(lambda: t.read() and os.tcgetpgrp(t.fd) != group, "the shell in the foreground")
        # Not a carriage return: nobody could restore the terminal, and dash does not.
        t.type("fg\n")
        wait_until(lambda: t.read() and os.tcgetpgrp(t.fd) == group and raw(t), "the raw mode")
        push("later")
        t.wait("< later\r\n").wait_for(lambda: at(t, "> ha"), "the line again")
        t.type("lf\r").wait("< half\r\n").type("\x04")
        t.wait_for(lambda: at(t, "PROMPT "), "the shell").type("exit\r")
        t.exit()


@pytest.mark.parametrize("shell", SHELLS)
def test_a_job_in_the_background_goes_on_and_leaves_the_terminal_alone(terminal, shell):
    with pushing() as (url, push):
        t = job(terminal, shell, url)
        t.type("\x1a").wait("Stopped")
        stopped(t, shell)
        t.type("bg\r")
        push("from behind")
        t.wait("< from behind\r\n")
        assert not raw(t)
        before = len(t.plain)
        t.type("echo typed $((40 + 2))\r").wait("typed 42")
        push("once more")
        t.wait("< once more\r\n")
        # Lines alone, no prompt of ours.
        assert "> ha" not in t.plain[before:]
        t.type("fg\r")
        wait_until(lambda: t.read() and raw(t), "the raw mode")
        t.wait_for(lambda: at(t, "> ha"), "the line again")
        t.type("lf\r").wait("< half\r\n").type("\x04")
        t.wait_for(lambda: at(t, "PROMPT "), "the shell").type("exit\r")
        t.exit()


def test_ctrl_z_without_a_shell_stops_nothing(terminal):
    with pushing() as (url, push):
        t = terminal(url)
        t.wait("* connected").type("ha").wait_for(lambda: at(t, "> ha"), "the line").type("\x1a")
        push("still here")
        t.wait("< still here\r\n").wait_for(lambda: at(t, "> ha") and raw(t), "the line again")
        t.type("lf\r").wait("< half\r\n").type("\x04")
        assert t.exit() == 0


def test_a_hang_up_is_said_to_the_server(terminal):
    codes = queue.Queue()
    started = threading.Event()

    def handler(peer):
        peer.accept()
        started.set()
        codes.put(peer.read_close())
        peer.bye()
    with PeerServer(handler) as server:
        t = terminal(server.url)
        t.wait("* connected")
        assert started.wait(PATIENCE)
        os.kill(t.pid, signal.SIGHUP)
        assert t.exit() == 129 and codes.get(timeout=PATIENCE) == 1000


def test_a_terminal_that_is_gone_ends_it(terminal):
    codes = queue.Queue()
    with PeerServer(lambda peer: codes.put(peer.accept().read_close())) as server:
        t = terminal(server.url)
        t.wait("* connected")
        os.close(t.fd)
        t.fd = None
        assert codes.get(timeout=PATIENCE) == 1000
        wait_until(lambda: os.waitpid(t.pid, os.WNOHANG)[0], "its end")
        t.status = 0


def test_a_resize_in_the_midst_of_a_key_does_not_end_it(terminal):
    with pushing() as (url, push):
        t = terminal(url)
        t.wait("* connected").type("half \x16").wait_for(lambda: t.plain.endswith("half "), "the line")
        for columns in (20, 5, 200):
            t.resize(columns)
            push(f"news {columns}")
            t.wait(f"< news {columns}\r\n")
        t.type("line\r").wait("< half line").type("\x04")
        assert t.exit() == 0
