"""`wsgw connect` at a terminal: the commands, the line that is typed, and the history."""

import socket
import threading

from harness import echo, wait_until, ws_server


def test_interactive_commands(terminal, tmp_path):
    (tmp_path / "f").write_text("from a file")
    with ws_server(echo, subprotocols=["json"]) as url:
        t = terminal("-s", "json", url)
        t.wait("* connected to").wait("subprotocol json").wait("> ")
        t.type("hello\r").wait("< hello")
        t.type("//slash\r").wait("< /slash")
        t.type("/nope\r").wait("unknown command /nope")
        t.type("/binary 00 ff\r").wait("< binary, 2 bytes: 00 ff")
        t.type(f"/file {tmp_path}/f\r").wait("< from a file")
        t.type("/ping x\r").wait("* pong x (")
        t.type("/headers\r").wait("sec-websocket-accept")
        t.type("/stats\r").wait("sent 4 messages")
        t.type("/help\r").wait("/reconnect")
        t.type("/pretty\r").wait("JSON is indented")
        t.type('{"a":1}\r').wait("<  {".replace("  ", " ")).wait('"a": 1')
        t.type("/reconnect\r")
        t.wait_for(lambda: t.plain.count("* connected to") == 2)
        t.type("/close 4001 bye\r")
        assert t.exit() == 0


def test_ctrl_d_and_ctrl_c(terminal):
    with ws_server(echo) as url:
        t = terminal(url)
        t.wait("> ").type("\x04")
        assert t.exit() == 0
        t = terminal(url)
        t.wait("> ").type("half a line\x03")
        t.type("whole\r").wait("< whole")
        assert "< half" not in t.plain
        t.type("\x03")
        assert t.exit() == 130


def test_messages_never_tear_the_line_that_is_typed(terminal):
    peers = []

    def handler(ws):
        peers.append(ws)
        echo(ws)

    with ws_server(handler) as url:
        t = terminal(url)
        t.wait("* connected").wait("> ")
        t.type("my half").wait("my half")
        wait_until(lambda: peers, "the connection")
        for i in range(5):
            peers[0].send(f"news {i}\n> forged \x1b[2J")
            t.wait(f"< news {i}\\n> forged \\x1b[2J")
        t.type(" line\r").wait("< my half line")
        t.type("\x04")
        assert t.exit() == 0


def test_a_paste_is_one_message(terminal):
    got = []

    def handler(ws):
        for message in ws:
            got.append(message)
            ws.send("ok")

    with ws_server(handler) as url:
        t = terminal(url)
        t.wait("> ").type("\x1b[200~one\ntwo\n/quit\x1b[201~").type("\r").wait("< ok")
        t.type("/quit\r")
        assert t.exit() == 0
    assert got == ["one\ntwo\n/quit"]


def test_lines_that_come_in_one_burst_are_all_sent(terminal):
    with ws_server(echo) as url:
        t = terminal(url)
        t.wait("> ").type("one\rtwo\rthree\r").wait("< one").wait("< two").wait("< three")
        t.type("half\x03four\r").wait("< four")
        t.type("\x04")
        assert t.exit() == 0


def test_ctrl_d_behind_a_line_is_not_swallowed(terminal):
    with ws_server(echo) as url:
        for _ in range(10):
            t = terminal(url)
            # The moment between two lines, in which the terminal is not the editor's.
            t.wait("> ").type("one\r").wait("one\r\n").type("\x04")
            assert t.exit() == 0, t.text


def test_history_across_runs_and_tab(terminal, tmp_path):
    with ws_server(echo) as url:
        t = terminal(url)
        t.wait("> ").type("remember me\r").wait("< remember me")
        t.type(" secret\r").wait("<  secret")
        t.type("\x04")
        assert t.exit() == 0
        file = tmp_path / "state/wsgw/history"
        assert file.stat().st_mode & 0o777 == 0o600
        assert "remember me" in file.read_text() and "secret" not in file.read_text()
        t = terminal(url)
        t.wait("> ").type("\x1b[A\r").wait("< remember me")
        t.type("/sta\t").wait("/stats").type("\r").wait("* open")
        t.type("/quit\r")
        assert t.exit() == 0
        before = file.read_text()
        t = terminal("--no-history", url)
        t.wait("> ").type("not kept\r").wait("< not kept").type("\x04")
        assert t.exit() == 0
        assert file.read_text() == before


def test_the_server_closes_while_one_types(terminal):
    peers = []
    with ws_server(lambda ws: (peers.append(ws), echo(ws))) as url:
        t = terminal(url)
        t.wait("> ").type("half")
        wait_until(lambda: peers, "the connection")
        peers[0].close(4000, "kicked")
        assert t.exit() == 5
        assert "4000" in t.plain and "kicked" in t.plain


def test_what_is_typed_before_it_is_connected_is_not_lost(terminal):
    with socket.socket() as acceptor:
        acceptor.bind(("127.0.0.1", 0))
        port = acceptor.getsockname()[1]
        acceptor.listen()
        t = terminal(f"ws://127.0.0.1:{port}/")
        t.type("early\r")
        peer, _ = acceptor.accept()
        peer.close()
        assert t.exit() in (3, 4)
    gate = threading.Event()

    def slow(connection, request):
        gate.wait(20)

    with ws_server(echo, process_request=slow) as url:
        t = terminal(url)
        t.type("early\r").wait("early")
        gate.set()
        t.wait("< early")
        t.type("\x04")
        assert t.exit() == 0
