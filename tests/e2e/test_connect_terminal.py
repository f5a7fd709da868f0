"""`wsgw connect` at a pseudo-terminal: what one types, what one sees, and how the terminal is left."""

import os
import pty
import re
import signal
import socket
import subprocess
import termios
import threading

import pytest

from harness import (
    WSGW,
    Peer,
    PeerServer,
    close_and_wait,
    echo,
    private_env,
    wait_until,
    ws_server,
)

# What may do something to a terminal, but for the line's end.
CONTROLS = re.compile("[\x00-\x09\x0b\x0c\x0e-\x1f\x7f-\x9f]")


def test_execute_is_not_interactive_but_with_wait_minus_one(terminal):
    with ws_server(echo) as url:
        for flags in (["-n", "1"], [], ["-w", "0.1"], ["-n", "1", "--echo"]):
            t = terminal("-x", "hi", *flags, url)
            assert t.exit() == 0 and t.text == "hi\r\n", (flags, t.text)
        t = terminal("-x", "/quit", "-w", "-1", url)
        t.wait("< /quit").type("more\r").wait("< more").type("\x04")
        assert t.exit() == 0


def test_nothing_acts_on_a_terminal_without_a_prompt_either(terminal):
    evil = "\x1b[2J\x9b1m\x07\r\nnext"
    with ws_server(echo) as url:
        for flags in ([], ["-b"]):
            t = terminal(*flags, "-x", evil, "-n", "1", url)
            assert t.exit() == 0
            assert "\\x1b[2J" in t.text and not CONTROLS.search(
                t.text.removesuffix("\r\n").replace("\r\n", "\n")
            ), t.text
            assert t.text.count("\n") <= 1
        t = terminal("--pretty", "-x", '{"a":"\\u001b","b":"\x9b"}', "-n", "1", url)
        assert t.exit() == 0 and t.text == '{\r\n  "a": "\\u001b",\r\n  "b": "\\x9b"\r\n}\r\n'


def test_piped_input_and_a_terminal_for_output(tmp_path):
    ours, theirs = pty.openpty()
    with ws_server(echo) as url:
        done = subprocess.run(
            [WSGW, "connect", "-n", "1", url],
            input=b"a\x1b[2Jb\n/quit\n",
            stdout=theirs,
            stderr=subprocess.PIPE,
            env=private_env(tmp_path),
            timeout=10,
        )
    os.close(theirs)
    assert done.returncode == 0 and os.read(ours, 1000) == b"a\\x1b[2Jb\r\n"
    os.close(ours)


def test_typed_input_and_a_pipe_for_output(tmp_path):
    ours, theirs = pty.openpty()
    with ws_server(echo) as url:
        process = subprocess.Popen(
            [WSGW, "connect", url],
            stdin=theirs,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=private_env(tmp_path),
        )
        os.write(ours, b"/help\nx\n")
        assert process.stdout.readline() + process.stdout.readline() == b"/help\nx\n"
        os.write(ours, b"\x04")
        assert process.wait(10) == 0 and process.stderr.read() == b""
    for fd in (ours, theirs):
        os.close(fd)


@pytest.mark.parametrize("how, exit", [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_leaves_the_terminal_as_it_was(terminal, how, exit):
    with ws_server(echo) as url:
        t = terminal(url)
        before = termios.tcgetattr(t.fd)[3]
        t.wait("> ").type("half").wait("half")
        wait_until(lambda: not t.attributes()[3] & termios.ICANON, "the raw mode")
        fd = os.dup(t.fd)
        os.kill(t.pid, how)
        assert t.exit() == exit
        assert termios.tcgetattr(fd)[3] == before and "\x1b[?2004l" in t.text
        os.close(fd)


def test_ctrl_z_and_fg(terminal):
    with ws_server(echo) as url:
        t = terminal("--norc", "-i", command=["bash"], PS1="PROMPT")
        t.wait("PROMPT").type(f"{WSGW} connect {url}\r").wait("* connected").type("ha").wait("\rha")
        t.type("\x1a").wait("Stopped")
        t.type("fg\r").wait("connect " + url)
        # The line that was half typed is there again.
        t.wait_for(lambda: t.plain.count("ha") > 1)
        t.type("lf\r").wait("< half").type("\x04")
        t.wait_for(lambda: t.plain.count("PROMPT") == 3)
        t.type("echo $?$?\r").wait("00")
        t.type("exit\r")
        assert t.exit() == 0


def test_resizing(terminal):
    with ws_server(echo) as url:
        t = terminal(url)
        t.wait("> ").type("half ").wait("half ")
        for columns in (20, 3, 200):
            t.resize(columns)
            t.read()
        t.type("line\r").wait("< half line").type("\x04")
        assert t.exit() == 0


def test_a_terminal_that_knows_no_escapes(terminal):
    with ws_server(echo) as url:
        t = terminal(url, TERM="dumb", NO_COLOR="")
        t.wait("* connected").type("hi\r").wait("< hi").type("/stats\r").wait(
            "sent 1 messages"
        ).type("\x04")
        assert t.exit() == 0 and "\x1b" not in t.text


def test_colours(terminal):
    with ws_server(echo) as url:
        for flags, env, coloured in [
            ([], {"NO_COLOR": ""}, True),
            ([], {"NO_COLOR": "1"}, False),
            (["--color", "always"], {"NO_COLOR": "1"}, True),
            (["--color", "never"], {"NO_COLOR": ""}, False),
        ]:
            t = terminal(*flags, url, **env)
            t.wait("* connected").type("hi\r").wait("< hi").type("\x04")
            assert t.exit() == 0 and ("\x1b[32m<" in t.text) == coloured, (flags, env, t.text)


def test_a_pasted_block_is_a_message_whatever_it_begins_with(terminal):
    got = []

    def handler(ws):
        for message in ws:
            got.append(message)
            ws.send("ok")

    blocks = ["/quit\nnow", "// a comment\n\tand more"]
    with ws_server(handler) as url:
        t = terminal(url)
        t.wait("> ")
        for i, block in enumerate(blocks):
            t.type(f"\x1b[200~{block}\x1b[201~\r")
            t.wait_for(lambda: len(got) > i)
        # One line is a line.
        t.type("\x1b[200~/quit\x1b[201~\r")
        assert t.exit() == 0
    assert [m.expandtabs(4).strip() for m in got] == [b.expandtabs(4).strip() for b in blocks]


def test_an_unknown_command_sends_nothing(terminal):
    got = []
    with ws_server(lambda ws: got.extend(ws)) as url:
        t = terminal(url)
        t.wait("> ")
        for line in (
            "/",
            "/nope \x1b[A",
            "/Quit",
            "/quit now",
            "/close 1006",
            "/close 1000 " + "x" * 124,
            "/ping " + "x" * 126,
            "/binary zz",
            "/binary @/no/such",
            "/file /no/such",
        ):
            t.type(line.replace("\x1b[A", "") + "\r")
        t.wait("unknown command /nope").wait("unknown command /Quit").wait("takes nothing").wait(
            "1006"
        ).wait("123 bytes").wait("125 bytes")
        t.wait_for(lambda: t.plain.count("/no/such: ") == 2)
        t.type("end\r/quit\r")
        assert t.exit() == 0
    assert got == ["end"]


def test_tab_completes_commands_and_files(terminal, tmp_path):
    (tmp_path / "a-file.txt").write_text("from a file")
    with ws_server(echo) as url:
        t = terminal(url)
        t.wait("> ").type("/he\t").wait("/he").type("\t")
        t.type("\x03/st\t\r").wait("* open 0 s")
        t.type(f"/file {tmp_path}/a-f\t\r").wait("< from a file")
        t.type(f"/binary @{tmp_path}/a-f\t\r").wait("< binary, 11 bytes: 66 72")
        t.type("/qu\t\r")
        assert t.exit() == 0


def test_what_is_typed_without_a_connection_is_sent_later(terminal):
    with socket.socket() as acceptor:
        acceptor.bind(("127.0.0.1", 0))
        acceptor.listen()
        t = terminal("--reconnect", "-v", f"127.0.0.1:{acceptor.getsockname()[1]}")

        def accept():
            sock, _ = acceptor.accept()
            return sock

        first = accept()
        Peer(first).accept()
        t.wait("* connected")
        first.close()
        t.wait("trying again").type("while away\r")
        second = accept()
        peer = Peer(second)
        t.type("in the handshake\r").wait("in the handshake")
        peer.accept()
        assert [peer.read(), peer.read()] == [(1, b"while away"), (1, b"in the handshake")]
        # What -v shows is shown above the line, too.
        t.wait("* > GET / HTTP/1.1\n  > ".replace("\n", "\r\n")).wait("* < HTTP/1.1 101")
        second.close()
        t.wait("lost")
        third = accept()
        t.type("half\x03\x03")
        assert t.exit() == 130
        third.close()
        t = terminal("--reconnect", f"127.0.0.1:{acceptor.getsockname()[1]}")
        fourth = accept()
        Peer(fourth).accept()
        t.wait("* connected")
        acceptor.close()
        fourth.close()
        t.wait("trying again").type("/quit\r")
        assert t.exit() == 0


def test_history_is_bounded_private_and_shared(terminal, tmp_path):
    file = tmp_path / "state/wsgw/history"
    file.parent.mkdir(parents=True)
    file.write_text("#V2\n" + "".join(f"line {i}\n" for i in range(1500)))
    file.chmod(0o644)
    with ws_server(echo) as url:
        one, two = terminal(url), terminal(url)
        for t, line in ((one, "from one"), (two, "from two"), (one, "one again")):
            t.wait("> ").type(line + "\r").wait("< " + line)
        one.type(" \x1b[A\x03 not this\r").wait("not this")
        for t in (one, two):
            t.type("\x04")
            assert t.exit() == 0
    entries = [line for line in file.read_text().splitlines() if line != "#V2"]
    assert len(entries) == 1000 and entries[-3:] == ["from one", "from two", "one again"]
    assert file.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    "end, exit",
    [
        (lambda p: p.bye(1000), 0),
        (lambda p: p.bye(1001), 0),
        (lambda p: p.frame(8), 0),
        (lambda p: p.bye(1011, b"no\x07"), 5),
        (lambda p: None, 5),
        (lambda p: p.send(b"\xc1\x00"), 1),
    ],
)
def test_exit_codes_at_a_terminal(terminal, end, exit):
    def handler(peer):
        end(peer.accept())
        peer.read_close()

    with PeerServer(handler if exit != 5 else lambda peer: end(peer.accept())) as server:
        t = terminal(server.url)
        assert t.exit() == exit, t.text
        assert "\x07" not in t.text


def test_failures_to_connect_at_a_terminal(terminal):
    refusal = b"HTTP/1.1 403 No\r\nX-Evil: \x9b2J\r\nContent-Length: 5\r\n\r\n\x1b[2Jb"
    with PeerServer(lambda peer: peer.send(refusal)) as server:
        t = terminal(server.url)
        assert (
            t.exit() == 4
            and "403 No" in t.text
            and "\\x1b[2Jb" in t.text
            and not CONTROLS.search(t.text.replace("\r\n", "\n"))
        )
    assert terminal("127.0.0.1:1").exit() == 3
    assert terminal("--nope").exit() == 2
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        assert terminal("--timeout", "0.2", f"127.0.0.1:{silent.getsockname()[1]}").exit() == 6


def test_ones_own_close(terminal):
    codes = []

    def handler(peer):
        codes.append(peer.accept().read_close())
        if len(codes) != 2:
            peer.bye()

    with PeerServer(handler) as server:
        for line in ("/close 4001 bye\r", "/close\r", "/quit\r", "\x04", "\x03"):
            t = terminal(server.url)
            t.wait("> ").type(line)
            assert t.exit() == (130 if line == "\x03" else 0)
    assert codes == [4001, 1000, 1000, 1000, 1000]


def test_count_and_timestamps_at_a_terminal(terminal):
    with PeerServer(
        lambda peer: close_and_wait(
            peer.accept().frame(1, b"a\n< b").frame(2, b"\0").frame(1, b"c")
        )
    ) as server:
        t = terminal("--timestamps", "-n", "2", server.url)
        assert t.exit() == 0
    stamp = r"\d{4}-\d\d-\d\dT[\d:.]+Z"
    assert re.search(rf"< {stamp} a\\n< b\r\n", t.plain) and re.search(
        rf"< {stamp} binary, 1 byte: 00\r\n", t.plain
    ), t.plain
    assert "c" not in t.plain.rsplit("binary", 1)[1].replace("closed", "")


def test_a_flood_neither_tears_nor_loses_a_line(terminal):
    stop, got = threading.Event(), []

    def flood(peer):
        peer.accept()

        def push():
            i = 0
            while not stop.wait(0.0005):
                try:
                    peer.frame(1, b"n%d " % i + b"w" * (i % 200))
                except OSError:
                    return
                i += 1

        pusher = threading.Thread(target=push)
        pusher.start()
        while len(got) < 20:
            got.append(peer.read()[1].decode())
        stop.set()
        pusher.join()
        close_and_wait(peer)

    with PeerServer(flood) as server:
        t = terminal(server.url)
        t.wait("> ")
        for i in range(20):
            for key in f"typed {i}\r":
                t.type(key).read(0.001)
        assert t.exit(20) == 0
    assert got == [f"typed {i}" for i in range(20)]
    numbers = []
    for line in t.plain.split("\n"):
        if "< n" in line:
            assert re.search(r"< n\d+ w*\r?$", line), line
            numbers.append(int(re.search(r"< n(\d+) ", line)[1]))
    assert numbers == sorted(numbers)


def test_what_came_before_the_end_is_shown(terminal):
    """The last lines were lost when the terminal was slower than the server's Close."""
    pushed = threading.Event()

    def push(peer):
        peer.accept()
        for i in range(200):
            peer.frame(1, b"n%d " % i + b"w" * 1000)
        pushed.set()
        close_and_wait(peer)

    for _ in range(5):
        pushed.clear()
        with PeerServer(push) as server:
            t = terminal(server.url)
            # Nobody reads the terminal until everything is on its way.
            assert pushed.wait(10)
            assert t.exit(20) == 0
        assert re.findall(r"< n(\d+) w{1000}\r?\n", t.plain) == [str(i) for i in range(200)], (
            t.plain[-3000:]
        )
        assert "the server closed the connection: 1000" in t.plain
