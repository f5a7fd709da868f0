"""`wsgw connect --resume`: bodies out of frames, and where it goes on after a lost connection."""

import json
import re
import resource
import select
import signal
import subprocess
import urllib.parse

import pytest

from harness import (
    PATIENCE,
    WSGW,
    PeerServer,
    close_and_wait,
    private_env,
    run_connect,
)

PROTOCOL = "Sec-WebSocket-Protocol: wsgw.v1\r\n"


def query(peer):
    """The query of a request, as pairs."""
    target = peer.request.split()[1].decode()
    return urllib.parse.parse_qsl(urllib.parse.urlsplit(target).query, keep_blank_values=True)


class Frames(PeerServer):
    """A server of `wsgw.v1`: `script` says for each connection what it sends; then it closes with
    the code that stands last there, or not at all (0: without a Close)."""

    def __init__(self, *script):
        self.script, self.queries, self.offers = list(script), [], []
        super().__init__(self.handle)

    def handle(self, peer):
        self.queries.append(query(peer))
        self.offers += peer.header("sec-websocket-protocol")
        *frames, code = self.script[len(self.queries) - 1]
        peer.accept(more=PROTOCOL)
        for frame in frames:
            peer.frame(1, (frame if isinstance(frame, str) else json.dumps(frame)).encode())
        if code == 1000:
            close_and_wait(peer)
        elif code:
            peer.bye(code)


def hello(at=None, **keys):
    return {"hello": 1, "conn": "k1", **({"at": at} if at else {}), **keys}


def message(text, at=None, **keys):
    return {"message": text, **({"at": at} if at else {}), **keys}


def since(*values):
    return [[("since", value)] if value else [] for value in values]


def test_bodies_are_printed_as_ever(tmp_path):
    frames = [hello("e-7"), {"joined": ["r"], "at": "e-1"}, message("one", "e-8", channel="r"),
              {"join": "r", "conn": "k2", "members": 2}, {"new": {"key": [1]}}, {},
              message("a\nb", "e-9", new=1), {"base64": "AP8=", "at": "e-10"}, message("")]
    for flags, out in [
        ((), "one\na\nb\nAP8=\n\n"),
        (("--binary",), b"onea\nb\x00\xff"),
        (("--pretty", "-n", "1"), "one\n"),
        (("-n", "2"), "one\na\nb\n"),
    ]:
        with Frames([*frames, 1000]) as server:
            stdin = b"" if isinstance(out, bytes) else ""
            done = run_connect(tmp_path, "--resume", "-w", "-1", *flags, server.url, stdin=stdin)
        assert (done.returncode, done.stdout, len(done.stderr)) == (0, out, 0), (flags, done)
    assert server.offers == ["wsgw.v1"]
    with Frames([hello("e-1"), message('{"a":1}'), 1000]) as server:
        done = run_connect(tmp_path, "--resume", "-w", "-1", "--pretty", "--timestamps", server.url)
    assert re.fullmatch(r'\d{4}-\S+Z \{\n  "a": 1\n\}\n', done.stdout), done


def test_it_goes_on_after_the_last_message_that_it_wrote(tmp_path):
    with Frames([hello("e-7"), message("8", "e-8"), message("private"), 0],
                [hello("e-8", recovered=True), message("9", "e-9.1"), 1012],
                [hello("e-9.1", recovered=True), 1001],
                [hello("e-9.1", recovered=True), message("10", "e-10"), 1000]) as server:
        done = run_connect(tmp_path, "--resume", "-w", "-1", server.url)
    assert (done.returncode, done.stdout) == (0, "8\nprivate\n9\n10\n"), done.stderr
    assert server.queries == since(None, "e-8", "e-9.1", "e-9.1")
    assert done.stderr.count("trying again") == 3 and "recovered" not in done.stderr


def test_the_urls_own_since_is_asked_once(tmp_path):
    with Frames([0], [hello("e-5", recovered=False), 0], [hello("e-5", recovered=True), 1000]) as server:
        url = f"{server.url}chat?channel=a%26b&since=e-1&x"
        done = run_connect(tmp_path, "--resume", "-w", "-1", url)
    # The first connection ended before its hello.
    rest = [("channel", "a&b"), ("x", "")]
    assert [sorted(q) for q in server.queries] == [
        sorted([*rest, ("since", value)]) for value in ("e-1", "e-1", "e-5")]
    # The position was the user's, and it was not recovered.
    assert done.returncode == 5 and done.stderr.count("since e-1 could not be recovered") == 1


def test_each_gap_is_said_once_and_ends_in_exit_5(tmp_path):
    with Frames([hello("e-7"), message("8", "e-8"), 0],
                [hello("f-0", recovered=False), message("1", "f-1"), 0],
                [hello("f-1", recovered=True), 0],
                [hello("g-4", recovered=False), 1000]) as server:
        done = run_connect(tmp_path, "--resume", "-w", "-1", server.url)
    assert (done.returncode, done.stdout) == (5, "8\n1\n"), done.stderr
    assert server.queries == since(None, "e-8", "f-1", "f-1")
    gaps = re.findall(r"^\* messages since (\S+) could not be recovered", done.stderr, re.M)
    assert gaps == ["e-8", "f-1"]


def test_a_gap_gives_way_to_worse_ends(tmp_path):
    gap = [[hello("e-7"), 0], [hello("f-0", recovered=False)]]
    # Fewer messages than asked for.
    with Frames(gap[0], [*gap[1], 1000]) as server:
        assert run_connect(tmp_path, "--resume", "-n", "3", server.url).returncode == 6
    # -n is reached: a good end, but for the gap.
    with Frames(gap[0], [*gap[1], message("x", "f-1"), 1000]) as server:
        assert run_connect(tmp_path, "--resume", "-n", "1", server.url).returncode == 5
    # The protocol is broken.
    with Frames(gap[0], [*gap[1], "[]", 1000]) as server:
        assert run_connect(tmp_path, "--resume", "-w", "-1", server.url).returncode == 1

    def stays(peer):
        if peer_server.times[1:]:
            peer.accept(more=PROTOCOL).frame(1, json.dumps(gap[1][0]).encode())
            peer.frame(1, b'{"message":"now"}')
            peer.read_close()
            peer.bye()
        else:
            peer.accept(more=PROTOCOL).frame(1, json.dumps(gap[0][0]).encode())

    with PeerServer(stays) as peer_server:
        client = subprocess.Popen([WSGW, "connect", "--resume", "-w", "-1", peer_server.url],
                                  stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                  stderr=subprocess.DEVNULL, env=private_env(tmp_path))
        assert client.stdout.readline() == b"now\n"
        client.send_signal(signal.SIGINT)
        assert client.wait(PATIENCE) == 130
        client.stdout.close()


def test_a_server_that_says_nothing_of_a_position_has_not_recovered_it(tmp_path):
    with Frames([hello("e-7"), 0], [hello("e-9"), 1000]) as server:
        done = run_connect(tmp_path, "--resume", "-w", "-1", server.url)
    assert done.returncode == 5 and "since e-7 could not be recovered" in done.stderr


def test_a_server_without_history_is_told_of_once(tmp_path):
    with Frames([hello(), message("a"), 0], [hello(), message("b"), 0], [hello(), 1000]) as server:
        done = run_connect(tmp_path, "--resume", "-w", "-1", server.url)
    assert (done.returncode, done.stdout) == (0, "a\nb\n"), done.stderr
    assert done.stderr.count("keeps no history") == 1
    assert server.queries == since(None, None, None)


@pytest.mark.parametrize("more", ["", "Sec-WebSocket-Protocol: json\r\n"])
def test_a_server_that_does_not_agree_is_exit_4_at_once(tmp_path, more):
    closes = []

    def handler(peer):
        peer.accept(more=more)
        closes.append(peer.read_close())

    with PeerServer(handler) as server:
        done = run_connect(tmp_path, "--resume", "-s", "json", server.url)
        assert len(server.times) == 1
    assert done.returncode == 4 and done.stdout == ""
    assert "does not agree to the subprotocol wsgw.v1" in done.stderr
    assert len(closes) == 1


def test_one_that_no_longer_agrees_is_exit_4(tmp_path):
    def handler(peer):
        if len(server.times) == 1:
            peer.accept(more=PROTOCOL).frame(1, b'{"hello":1,"at":"e-1"}')
        else:
            peer.accept().read_close()

    with PeerServer(handler) as server:
        done = run_connect(tmp_path, "--resume", "-w", "-1", server.url)
    assert done.returncode == 4 and "does not agree" in done.stderr


def test_a_refusal_is_tried_again(tmp_path):
    def handler(peer):
        if len(server.times) == 2:
            peer.send(b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n")
        else:
            peer.accept(more=PROTOCOL).frame(1, b'{"hello":1,"at":"e-1","recovered":true}')
            queries.append(query(peer))
            if len(server.times) == 3:
                close_and_wait(peer)

    queries = []
    with PeerServer(handler) as server:
        done = run_connect(tmp_path, "--resume", "-w", "-1", server.url)
    assert done.returncode == 0, done.stderr
    assert queries == since(None, "e-1")


def test_a_message_that_was_not_written_comes_again(tmp_path):
    """Stdout is full when the connection is lost: what has not been written is no position, and
    nothing of what waits to be written comes twice."""
    texts = [f"{n} " + "x" * 100_000 for n in range(30)]
    sent = [message(text, f"e-{n + 1}") for n, text in enumerate(texts)]

    class Resuming(Frames):
        def handle(self, peer):
            self.queries.append(query(peer))
            peer.accept(more=PROTOCOL)
            begin = int(dict(self.queries[-1]).get("since", "e-0").split("-")[1])
            peer.frame(1, json.dumps(hello(f"e-{begin}", recovered=True)).encode())
            for frame in sent[begin:20] if len(self.queries) == 1 else sent[begin:]:
                peer.frame(1, json.dumps(frame).encode())
            if len(self.queries) > 1:
                close_and_wait(peer)

    with Resuming() as server:
        with subprocess.Popen([WSGW, "connect", "--resume", "-w", "-1", server.url], text=True,
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, env=private_env(tmp_path)) as client:
            # It waits for stdout before it tries again.
            assert "trying again" in client.stderr.readline()
            got, err = client.communicate(timeout=PATIENCE)
    assert client.returncode == 0, err
    assert got == "".join(text + "\n" for text in texts)
    assert server.queries == since(None, "e-20")


def test_a_message_that_is_given_up_while_it_waits_for_stdout_comes_again(tmp_path):
    """Its connection has failed for writing, and stdout takes nothing for longer than the patience
    with such a connection: the message at hand is lost with it, and must not count as written."""
    count = 1000
    texts = [f"{n:04}".ljust(1000, "x") for n in range(1, count + 1)]

    def handler(peer):
        peer.accept(more=PROTOCOL)
        queries.append(query(peer))
        begin = int(dict(queries[-1]).get("since", "e-0").split("-")[1])
        peer.frame(1, json.dumps(hello(f"e-{begin}", recovered=True)).encode())
        for n in range(begin, count):
            peer.frame(1, json.dumps(message(texts[n], f"e-{n + 1}")).encode())
        if begin == 0:
            peer.reset()
        else:
            close_and_wait(peer)

    queries = []
    with PeerServer(handler) as server:
        with subprocess.Popen([WSGW, "connect", "--resume", "-w", "-1", server.url], text=True,
                              stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, env=private_env(tmp_path)) as client:
            # One of the lines is written after the reset.
            while not select.select([client.stderr], [], [], 0.05)[0]:
                client.stdin.write("line\n")
                client.stdin.flush()
            assert "trying again" in client.stderr.readline()
            got, err = client.communicate(timeout=PATIENCE)
    assert client.returncode == 0, err
    assert got.splitlines() == texts
    assert len(queries) == 2 and 0 < int(queries[1][0][1].split("-")[1]) < count


def test_a_full_stdout_keeps_nobody_from_leaving(tmp_path):
    def handler(peer):
        peer.accept(more=PROTOCOL).frame(1, b'{"hello":1,"at":"e-0"}')
        for n in range(10):
            peer.frame(1, json.dumps(message("x" * 100_000, f"e-{n}")).encode())

    with PeerServer(handler) as server:
        with subprocess.Popen([WSGW, "connect", "--resume", "-w", "-1", server.url], text=True,
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, env=private_env(tmp_path)) as client:
            assert "trying again" in client.stderr.readline()
            client.send_signal(signal.SIGINT)
            assert client.wait(PATIENCE) == 130
        assert len(server.times) == 1


def test_echo_sends_bare_bodies(tmp_path):
    got = []

    def handler(peer):
        peer.accept(more=PROTOCOL).frame(1, b'{"hello":1,"at":"e-1"}')
        peer.frame(1, b'{"message":"hi","at":"e-2"}').frame(1, b'{"base64":"AP8=","at":"e-3"}')
        got.extend([peer.read(), peer.read()])
        close_and_wait(peer)

    with PeerServer(handler) as server:
        done = run_connect(tmp_path, "--resume", "--echo", server.url)
    assert (done.returncode, done.stdout) == (0, "hi\nAP8=\n"), done.stderr
    assert got == [(1, b"hi"), (2, b"\x00\xff")]


def test_at_a_terminal(terminal):
    def handler(peer):
        first = len(server.times) == 1
        peer.accept(more=PROTOCOL)
        queries.append(query(peer))
        peer.frame(1, json.dumps(hello("e-7" if first else "f-0", recovered=first)).encode())
        peer.frame(1, json.dumps(message("first" if first else "second\x1b[2J", "e-8")).encode())
        if first:
            # What one types is a bare body.
            assert peer.read() == (1, b"typed")
        else:
            peer.read_close()
            peer.bye()

    queries = []
    with PeerServer(handler) as server:
        t = terminal("--resume", server.url)
        t.wait("(subprotocol wsgw.v1)").wait("< first").type("typed\r")
        t.wait("* messages since e-8 could not be recovered").wait("< second\\x1b[2J")
        t.type("\x04")
        assert t.exit() == 5
    assert queries == since(None, "e-8")


@pytest.mark.parametrize(
    "frames, said",
    [
        (["hi"], "JSON object"),
        (["[1]"], "JSON object"),
        (['{"hello":1'], "not valid JSON"),
        ([message("x")], "before the hello"),
        ([hello("e-1"), hello("e-1")], "second hello"),
        ([hello("e-1"), '{"message":7}'], "must be a string"),
        ([hello("e-1"), '{"message":"x","at":7}'], "must be a string"),
        ([hello("e-1"), '{"base64":"%"}'], "base64"),
        ([hello("e-1"), '{"message":"\\ud800"}'], "valid string"),
        ([hello("e\n\x1b[2J")], "position"),
        ([hello("e" * 300)], "position"),
        ([hello("e-1", recovered="yes")], "true or false"),
        ([hello("e-1"), '{"message":' + "[" * 200_000 + "]" * 200_000 + "}"], "must be a string"),
        ([hello("e-1"), '{"x":' + "[" * 200_000], "not valid JSON"),
        ([hello("e-1"), '{"message":"' + "x" * 1000 + "\x1b[2J"], "not valid JSON"),
    ],
    ids=lambda value: re.sub(r"\W+", "-", str(value))[:30],
)
def test_a_wrong_frame_is_exit_1_and_not_tried_again(tmp_path, frames, said):
    with Frames([*frames, 1000], [hello(), 1000]) as server:
        done = run_connect(tmp_path, "--resume", "-w", "-1", server.url)
        assert len(server.times) == 1
    assert done.returncode == 1 and said in done.stderr, done.stderr[:500]
    assert "broke the subprotocol wsgw.v1" in done.stderr
    assert "panicked" not in done.stderr and "\x1b" not in done.stderr and len(done.stderr) < 500


def test_a_binary_message_is_no_frame(tmp_path):
    closes = []

    def handler(peer):
        peer.accept(more=PROTOCOL).frame(1, b'{"hello":1}').frame(2, b"{}")
        closes.append(peer.read_close())

    with PeerServer(handler) as server:
        done = run_connect(tmp_path, "--resume", "-w", "-1", server.url)
    assert done.returncode == 1 and "binary message" in done.stderr
    assert closes == [1002]


def test_a_huge_frame_takes_bounded_memory(tmp_path):
    """One of 512 MiB is announced; it is refused by its length."""
    def handler(peer):
        peer.accept(more=PROTOCOL).frame(1, b'{"hello":1}')
        peer.send(b"\x81\x7f" + (512 << 20).to_bytes(8, "big") + b'{"message":"')
        closes.append(peer.read_close())

    closes = []
    limit = lambda: resource.setrlimit(resource.RLIMIT_DATA, (200 << 20, 200 << 20))  # noqa: E731
    with PeerServer(handler) as server:
        client = subprocess.Popen([WSGW, "connect", "--resume", "-w", "-1", server.url],
                                  stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
                                  env=private_env(tmp_path), preexec_fn=limit)
        said = client.stderr.readline()
        assert "trying again" not in said or "536870912" in said, said
        while "536870912" not in said:
            said = client.stderr.readline()
            assert said
        client.send_signal(signal.SIGTERM)
        client.wait(PATIENCE)
        client.stderr.close()
    assert closes[0] == 1009


def test_help_says_what_it_needs(tmp_path):
    shown = run_connect(tmp_path, "--help").stdout
    assert "--resume" in shown and "wsgw.v1" in shown


@pytest.mark.parametrize("flag", ["--reconnect", "--resume"])
def test_who_left_by_itself_does_not_try_again(tmp_path, flag):
    """A close with 1000, the end of the silence: fewer messages than -n, or a line that was not
    sent, are no reason to come back."""
    def handler(peer):
        peer.accept(more=PROTOCOL if flag == "--resume" else "").frame(1, b'{"hello":1}')
        if b"bye" in peer.request:
            return peer.bye()
        peer.read_close()
        peer.bye()

    with PeerServer(handler) as server:
        done = run_connect(tmp_path, flag, "-n", "3", "-w", "-1", server.url + "bye")
        assert done.returncode == 6 and "(-n)" in done.stderr, done
        done = run_connect(tmp_path, flag, "-n", "3", "-w", "0", server.url)
        assert done.returncode == 6 and "(-n)" in done.stderr, done
        done = run_connect(tmp_path, flag, "-w", "0", server.url, stdin=b"\xff\n")
        assert done.returncode == 1 and b"not all of stdin was sent" in done.stderr, done
        assert len(server.times) == 3
