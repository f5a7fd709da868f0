"""`wsgw bench`: what it counts and measures is true, and what it says can be used."""

import base64
import contextlib
import hashlib
import html.parser
import json
import os
import re
import resource
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time

import pytest

from harness import (
    WSGW, PeerServer, Terminal, certificate, echo, encode_frame, private_env, rss_kib, run_cli, ws_server,
)

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
LATENCIES = ["p50", "p90", "p99", "p999", "max"]


@pytest.fixture
def bench(tmp_path):
    """Runs a load test of this URL, for a second if nothing else is said."""

    def run(url, *args, code=0, duration="1s", env=None):
        done = run_cli(tmp_path, "bench", url, "-d", duration, *args, env=env)
        assert done.returncode == code, done
        return done

    return run


@pytest.fixture
def report(bench):
    """The same, with the report as it is in JSON."""

    def run(url, *args, **options):
        done = bench(url, *args, "--json", **options)
        assert len(done.stdout.splitlines()) == 1, done
        return json.loads(done.stdout)

    return run


def check(found):
    """What holds for every report in which something came."""
    latencies = [found["latency_ms"][name] for name in LATENCIES]
    assert latencies == sorted(latencies) and latencies[0] > 0, found
    assert found["rate"] == pytest.approx(found["received"] / found["seconds"], rel=0.01, abs=0.1)
    assert 0 <= found["busy"] <= 1
    return found


# The modes.


def test_a_fan_out_is_counted_as_the_gateway_counts_it(serve, report):
    server = serve()
    found = check(report(server.url(), "-c", "20"))
    assert found["sent"] > 20 and found["lost"] == found["duplicates"] == found["closed"] == 0
    assert found["received"] == 20 * found["sent"]
    # Before, there were the message that shows who gets it, and the warm-up.
    assert server.metric("wsgw_messages_received_total") > found["sent"]
    assert server.metric("wsgw_deliveries_total") == 20 * server.metric("wsgw_messages_received_total")
    assert server.metric("wsgw_connections_accepted_total") == 20
    server.await_metric("wsgw_connections_closed_total", 20, code="1000")


def test_an_echo_of_any_server(report):
    with ws_server(echo) as url:
        found = check(report(url, "--mode", "echo", "-c", "5", "--payload", "100000"))
    assert found["sent"] == found["received"] > 5 and found["lost"] == 0 and found["notes"] == []


def test_idle_connections_are_opened_once_and_kept(serve, report):
    server = serve("--ping-interval", "100ms", "--pong-timeout", "1s")
    found = report(server.url(), "--mode", "idle", "-c", "50")
    assert found["sent"] == found["received"] == 50 and found["seconds"] == pytest.approx(1, rel=0.5)
    # The rate is that of the opening.
    assert found["rate"] > 50 and found["latency_ms"]["p50"] > 0
    assert found["lost"] == found["closed"] == 0
    assert server.metric("wsgw_connections_accepted_total") == 50


def test_connections_are_opened_and_closed_over_and_over(serve, report):
    server = serve()
    found = check(report(server.url(), "--mode", "connect", "-c", "4"))
    assert found["sent"] == found["received"] > 50 and found["lost"] == 0
    assert server.metric("wsgw_connections_accepted_total") == found["received"]
    server.await_metric("wsgw_connections_closed_total", found["received"], code="1000")


def test_openings_at_a_rate(serve, report):
    found = check(report(serve().url(), "--mode", "connect", "--rate", "50", duration="2s"))
    assert found["sent"] == found["received"] == 100


# The open loop.


@pytest.mark.parametrize("mode", ["fanout", "echo"])
def test_messages_are_sent_at_the_rate(serve, report, mode):
    found = check(report(serve("--route", "all" if mode == "fanout" else "sender").url(),
                         "--mode", mode, "--rate", "200", "-c", "3"))
    assert found["sent"] == 200 and found["target_rate"] == 200 and found["unsent"] == 0
    assert found["received"] == 200 * (3 if mode == "fanout" else 1)
    assert found["sent_rate"] == pytest.approx(200, rel=0.02)


def test_latency_counts_from_when_a_message_was_due(report):
    """A server that stands still for half a second delays all that was due in that time."""
    stalls = threading.Semaphore(1)

    def handler(connection):
        for message in connection:
            connection.send(message)
            if int(message[12:20], 16) == 50 and stalls.acquire(blocking=False):
                time.sleep(0.5)

    with ws_server(handler) as url:
        found = check(report(url, "--mode", "echo", "-c", "1", "--rate", "100", duration="2s"))
    assert found["sent"] == found["received"] == 200
    assert found["latency_ms"]["max"] > 450
    # 50 of 200 were due while it stood still: the slowest tenth waited 300 ms or more.
    assert found["latency_ms"]["p90"] > 280


def test_what_a_server_does_not_take_is_not_counted_as_sent(report):
    """Its messages are due, and stay behind those that wait for the socket."""
    over = threading.Event()

    def handler(peer):
        peer.accept()
        for _ in range(3):  # what the warm-up needs
            peer.frame(1, peer.read()[1])
        over.wait(30)

    with PeerServer(handler) as server:
        found = report(server.url, "--mode", "echo", "-c", "1", "--rate", "20",
                       "--payload", str(4 << 20), duration="1s")
        over.set()
    assert found["unsent"] > 0 and found["sent"] + found["unsent"] == 20
    assert found["received"] + found["lost"] == found["sent"]
    assert "could not be sent when due" in found["notes"][0]


# Losses and duplicates.


def number(message):
    """The number in a message's mark."""
    assert message.startswith("@@")
    return int(message[12:20], 16)


def test_losses_and_duplicates_are_exact(report):
    def handler(connection):
        for message in connection:
            if number(message) % 10 != 9:
                connection.send(message)
            if number(message) % 10 in (3, 5):
                connection.send(message)

    with ws_server(handler) as url:
        found = check(report(url, "--mode", "echo", "-c", "2", "--rate", "200"))
    assert (found["sent"], found["lost"], found["duplicates"]) == (200, 20, 40)
    assert found["received"] == 180


def test_another_order_is_no_loss(report):
    def handler(connection):
        held = None
        for message in connection:
            if number(message) % 2 == 0:
                held = message
                continue
            connection.send(message)
            connection.send(held)

    with ws_server(handler) as url:
        found = check(report(url, "--mode", "echo", "-c", "1", "--rate", "100"))
    assert (found["sent"], found["lost"], found["duplicates"]) == (100, 0, 0)


def test_the_closed_loop_goes_on_after_a_loss(report):
    def handler(connection):
        for message in connection:
            if number(message) != 30:
                connection.send(message)

    with ws_server(handler) as url:
        found = check(report(url, "--mode", "echo", "-c", "1", duration="6s"))
    assert found["lost"] == 1 and found["received"] == found["sent"] - 1 > 31


LISTENER = """
import json, sys
for line in sys.stdin:
    event = json.loads(line)
    if event.get("message"):
        text = "<" + event["message"].upper() + ">"
        print(json.dumps({"id": event["id"], "message": text}), flush=True)
"""


def test_a_listener_may_change_messages(serve, report):
    server = serve(listener=[sys.executable, "-c", LISTENER])
    found = check(report(server.url(), "-c", "3"))
    assert found["received"] == 3 * found["sent"] and found["lost"] == 0


def test_two_load_tests_do_not_mix(serve, tmp_path):
    url = serve().url()
    command = [WSGW, "bench", url, "-d", "1s", "-c", "3", "--rate", "100", "--json"]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, env=private_env(tmp_path))
            for _ in range(2)]
    for one in both:
        found = json.loads(one.communicate()[0])
        assert (found["sent"], found["received"], found["duplicates"]) == (100, 300, 0)


# Who gets what.


def test_a_sender_that_does_not_get_its_own_is_not_counted(serve, report):
    found = check(report(serve("--route", "others").url(), "-c", "4"))
    assert found["received"] == 3 * found["sent"] and found["lost"] == 0
    assert "sender" in found["notes"][0]


@pytest.mark.parametrize(("route", "says"), [("sender", "--mode echo"), ("none", "reached nobody")])
def test_without_a_fan_out_it_says_why(serve, bench, route, says):
    assert says in bench(serve("--route", route).url(), "-c", "3", code=1).stderr


def test_without_an_echo_it_says_why(serve, bench):
    done = bench(serve("--route", "none").url(), "-c", "3", "--mode", "echo", code=1)
    assert "no message came back" in done.stderr


def test_an_echo_to_all_is_told(serve, report):
    found = report(serve().url(), "-c", "3", "--mode", "echo", "--rate", "50")
    assert found["sent"] == found["received"] == 50 and found["lost"] == 0
    assert "100 messages" in found["notes"][0] and "--route sender" in found["notes"][0]


@pytest.mark.parametrize("source", ["path", "query"])
def test_a_channel(serve, report, source):
    server = serve("--channels", source, "--allow-channels", "*", "--route", "channels")
    other = server.connect("/other?channel=other")
    found = check(report(server.url(), "-c", "4", "--channel", "news/sport"))
    assert found["received"] == 4 * found["sent"] and found["lost"] == 0
    with pytest.raises(TimeoutError):
        other.recv(timeout=0)


# Connections of other kinds.


def test_tls(serve, report, bench, tmp_path):
    pem, key = certificate(tmp_path)
    server = serve("--tls-cert", pem, "--tls-key", key)
    url = f"wss://localhost:{server.port()}/"
    for flags in (["--cacert", pem], ["--insecure"]):
        found = check(report(url, "-c", "5", *flags))
        assert found["received"] == 5 * found["sent"] and found["lost"] == 0
    found = check(report(url, "--insecure", "--mode", "connect", "-c", "2"))
    assert found["received"] == found["sent"] > 1
    assert "certificate" in bench(url, "-c", "5", code=3).stderr
    # No TLS where it is spoken.
    assert bench(url.replace("wss", "ws"), code=4).stdout == ""


def test_a_unix_socket(serve, report, tmp_path):
    path = tmp_path / "g.sock"
    serve(config=f'[gateways.default]\nhost = "unix:{path}"\n')
    found = check(report(f"ws+unix://{path}:/", "-c", "10"))
    assert found["received"] == 10 * found["sent"]
    found = check(report(f"ws+unix://{path}:/", "-c", "10", "--mode", "connect"))
    assert found["received"] == found["sent"] > 10


def test_headers_are_sent(report):
    seen = []

    def handler(peer):
        peer.accept()
        seen.extend(peer.header("x-name") + peer.header("authorization"))
        while True:
            opcode, payload = peer.read()
            peer.frame(opcode, payload)

    with PeerServer(handler) as server:
        url = server.url.replace("ws://", "ws://u:p@")
        found = report(url, "-c", "1", "--mode", "echo", "-H", "X-Name: a b")
    assert seen == ["a b", "Basic dTpw"] and "u:p" not in found["url"]


# What goes wrong.


def test_a_machine_that_is_not_this_one_needs_remote(bench):
    for url in ("ws://192.0.2.1/", "ws://[2001:db8::1]/", "ws://nowhere.invalid/"):
        done = bench(url, code=2)
        assert "--remote" in done.stderr and done.stdout == ""
    assert "resolved" in bench("ws://nowhere.invalid/", "--remote", code=3).stderr


def test_addresses_of_this_machine_are_its_own(serve, bench):
    server = serve("--host", "0.0.0.0")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        # It sends nothing; it shows which address would be used.
        probe.connect(("192.0.2.1", 9))
        own = probe.getsockname()[0]
    for host in ("localhost", "127.1.2.3", own):
        bench(f"ws://{host}:{server.port()}/", "--mode", "idle", "-c", "1", duration="10ms")


def test_no_server(bench, tmp_path):
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        for mode in ("fanout", "echo", "idle", "connect"):
            done = bench(f"127.0.0.1:{held.getsockname()[1]}", "--mode", mode, code=3)
            assert "wsgw serve" in done.stderr and done.stdout == "", mode
    assert "cannot be reached" in bench(f"ws+unix://{tmp_path}/x:/", code=3).stderr


def test_gateways_that_run_elsewhere_are_named(serve, bench, tmp_path):
    """A newcomer who gave the gateway a port of its own forgets it in the next command."""
    server = serve()
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        url = f"ws://127.0.0.1:{held.getsockname()[1]}/"
        env = server.env
        done = bench(url, code=3, env=env)
        assert f"a gateway runs at {server.url().rstrip('/')}: wsgw bench ws://" in done.stderr, done
        done = run_cli(tmp_path, "connect", url, env=env)
        assert done.returncode == 3 and "wsgw connect ws://127.0.0.1:" in done.stderr, done


def test_a_refusal(serve, bench):
    done = bench(serve("--path", "/chat").url("/other"), code=4)
    assert "404" in done.stderr and done.stdout == ""


def test_fewer_connections_than_asked_for(serve, bench, report):
    url = serve("--max-connections", "5").url()
    done = bench(url, "-c", "9", code=4)
    assert "5 of 9 connections" in done.stderr and "503" in done.stderr
    found = report(url, "-c", "9", "--mode", "idle")
    assert (found["sent"], found["received"], found["lost"]) == (9, 5, 4)
    assert "4 openings failed" in found["notes"][0] and "503" in found["notes"][0]


def test_messages_that_the_server_does_not_take(serve, bench):
    done = bench(serve("--max-message", "1000").url(), "-c", "3", "--payload", "1001", code=1)
    assert "1009" in done.stderr


def test_what_is_no_websocket_server(bench):
    def http(peer):
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi\x1b[2J")

    def wrong_key(peer):
        peer.accept(accept="AAAAAAAAAAAAAAAAAAAAAAAAAAA=")

    def noise(peer):
        peer.send(b"SSH-2.0-x\r\n\r\n\r\n")

    for handler in (http, wrong_key, noise):
        with PeerServer(handler) as server:
            done = bench(server.url, "-c", "1", code=4)
        assert "\x1b" not in done.stderr and done.stdout == ""


def test_frames_that_break_the_protocol(bench):
    def handler(peer):
        peer.accept()
        peer.frame(1, peer.read()[1])  # the probe
        for _ in range(10):
            peer.frame(1, peer.read()[1])
        peer.send(b"\xff\xff\xff")
        peer.read_close()

    with PeerServer(handler) as server:
        done = bench(server.url, "-c", "1", "--rate", "20", code=1)
    assert "broke the protocol" in done.stdout, done


@pytest.mark.parametrize("mode", ["fanout", "echo", "connect"])
def test_a_rate_far_below_one_is_one_message(serve, report, mode):
    """The second one is due beyond the end of the clock."""
    url = serve("--route", "sender" if mode == "echo" else "all").url()
    found = report(url, "--mode", mode, "-c", "1", "--rate", "1e-12")
    assert found["sent"] == found["received"] == 1, found


def tls_server(tmp_path, after):
    """The port of a server over TLS that opens WebSockets and then does `after(tls, sock)`."""
    pem, key = certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem, key)
    acceptor = socket.create_server(("127.0.0.1", 0))

    def serve_tls():
        with contextlib.suppress(OSError):
            while True:
                sock, _ = acceptor.accept()
                tls = context.wrap_bio(incoming := ssl.MemoryBIO(), outgoing := ssl.MemoryBIO(),
                                       server_side=True)

                def does(what):
                    while True:
                        try:
                            result = what()
                            sock.sendall(outgoing.read())
                            return result
                        except ssl.SSLWantReadError:
                            sock.sendall(outgoing.read())
                            incoming.write(sock.recv(65536))

                does(tls.do_handshake)
                head = b""
                while b"\r\n\r\n" not in head:
                    head += does(lambda: tls.read(4096))
                name = re.search(rb"(?i)sec-websocket-key: *(\S+)", head)[1]
                accept = base64.b64encode(hashlib.sha1(name + GUID).digest())
                does(lambda: tls.write(
                    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                    b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"))
                # Its close_notify; it does not wait for ours.
                with contextlib.suppress(ssl.SSLWantReadError):
                    tls.unwrap()
                sock.sendall(outgoing.read() + after)
                sock.recv(1)

    threading.Thread(target=serve_tls, daemon=True).start()
    return acceptor


@pytest.mark.parametrize("after", [b"", b"x" * 400_000], ids=["nothing", "more"])
def test_the_end_of_tls_is_the_end_of_the_connection(report, tmp_path, after):
    with tls_server(tmp_path, after) as acceptor:
        url = f"wss://127.0.0.1:{acceptor.getsockname()[1]}/"
        found = report(url, "--insecure", "--mode", "idle", "-c", "1")
    assert found["closed"] == 1 and "without a Close" in found["notes"][0], found


def test_a_server_that_pings_and_does_not_read_fills_no_memory(tmp_path):
    peak = 0

    def handler(peer):
        nonlocal peak
        peer.accept()
        pings = encode_frame(9, b"p" * 125, masked=False) * 1000
        for n in range(300):
            peer.send(pings)
        peak = rss_kib(running.pid)
        running.terminate()

    with PeerServer(handler) as server:
        command = [WSGW, "bench", server.url, "--mode", "idle", "-c", "1", "-d", "60s"]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                              env=private_env(tmp_path)) as running:
            running.wait(60)
    # 300,000 pongs are 39 MB; a buffer that doubles had twice as much.
    assert 0 < peak < 40_000, peak


def test_a_server_that_sends_without_end_keeps_nobody(tmp_path):
    def handler(peer):
        peer.accept()
        messages = encode_frame(1, b"x", masked=False) * 100_000
        while True:
            peer.send(messages)

    with PeerServer(handler) as server:
        command = [WSGW, "bench", server.url, "--mode", "idle", "-c", "1", "-d", "1s"]
        done = subprocess.run(command, capture_output=True, env=private_env(tmp_path), timeout=30)
    assert done.returncode == 0, done


def test_a_server_that_is_far_behind_is_not_waited_for_without_end(report):
    """It answers, but would take minutes for what was sent."""
    def handler(connection):
        for n, message in enumerate(connection):
            connection.send(message)
            if n > 50:
                time.sleep(0.08)

    with ws_server(handler) as url:
        began = time.monotonic()
        found = report(url, "--mode", "echo", "-c", "1", "--rate", "200")
    assert time.monotonic() - began < 40
    assert found["lost"] > 20 and "behind" in found["notes"][-1], found


def test_a_server_that_ends(serve, tmp_path):
    server = serve()
    command = [WSGW, "bench", server.url(), "-d", "60s", "-c", "4", "--rate", "100", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          env=private_env(tmp_path)) as running:
        # The first 101 are from before the measurement.
        server.await_metric("wsgw_messages_received_total", 150)
        server.signal()
        out, said = running.communicate(timeout=30)
        found = json.loads(out)
    assert running.returncode == 1 and b"the server ended the test" in said
    # Once the sender is gone there is nothing to wait for, whatever became of the others.
    assert found["sent"] > 0 and 1 <= found["closed"] <= 4 and "1001" in found["notes"][0]
    # No more than what was under way.
    assert found["lost"] <= 40 < found["received"]


def test_more_connections_than_files(bench):
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if hard in (resource.RLIM_INFINITY, 0) or hard >= 1_000_000:
        pytest.skip("there is no limit on open files here")
    done = bench("127.0.0.1:9", "-c", str(hard), code=2)
    assert "ulimit -Hn" in done.stderr


@pytest.mark.parametrize("flags", [
    ["-c", "0"], ["-c", "x"], ["--rate", "0"], ["--rate", "-1"], ["--rate", "nan"], ["--payload", "31"],
    ["--mode", "flood"], ["--assert", "p99"], ["-H", "no colon"],
])
def test_usage_errors(bench, flags):
    done = bench("127.0.0.1:9", *flags, code=2)
    assert done.stdout == "" and done.stderr


# Assertions.


def test_assertions_decide_about_the_exit_code(serve, bench):
    url = serve().url()
    flags = ["--mode", "echo", "-c", "1", "--rate", "50"]
    good = bench(url, *flags, "--assert", "lost=0, duplicates=0,p99<10s,max>=1us,rate>40,sent=50")
    assert "50" in good.stdout and good.stderr == ""
    bad = bench(url, *flags, "--assert", "lost=0,p50<1us,received>50", code=1)
    assert "p50<1us: it is" in bad.stderr and "received>50: it is 50" in bad.stderr
    assert "lost" not in bad.stderr
    # The report is there all the same.
    assert "received" in bad.stdout


@pytest.mark.parametrize("text", [
    "", "p99", "p99<20", "p99<20m", "lost=0ms", "lost==0", "speed>1", "lost=0;p99<1s", "rate>fast",
])
def test_an_assertion_that_cannot_be_read_is_found_before_the_test(bench, text):
    start = time.monotonic()
    done = bench("127.0.0.1:9", "--assert", text, code=2, duration="60s")
    assert repr(text)[1:-1] in done.stderr and time.monotonic() - start < 30


def test_an_assertion_about_nothing_fails(serve, bench):
    url = serve("--max-connections", "1").url()
    # One connection in a second, and the rest is refused.
    done = bench(url, "--mode", "idle", "-c", "3", "--assert", "lost=0", code=1)
    assert "lost=0: it is 2" in done.stderr


# The reports.


class Page(html.parser.HTMLParser):
    """What a page consists of."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.links, self.open = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.links += [value for name, value in attributes if name in ("href", "src", "srcset")]
        if tag not in ("meta", "path"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_startendtag(self, tag, attributes):
        self.tags.append(tag)


def test_the_page_is_whole_by_itself(serve, bench, tmp_path):
    path = tmp_path / "a report.html"
    path.write_text("what was there before")
    url = serve().url("/?<b>&")
    done = bench(url, "-c", "3", "--html", path)
    text = path.read_text()
    page = Page(text)
    assert page.open == [] and page.links == [] and "script" not in page.tags
    assert page.tags.count("svg") == 3 and page.tags.count("table") == 2
    assert "what was there before" not in text
    assert "@import" not in text and "url(" not in text and "://" not in text.replace("ws://", "")
    # Its figures are those of the text.
    sent = re.search(r"sent +([\d,]+)", done.stdout)[1]
    assert f"<td>{sent}</td>" in text


def test_a_page_that_cannot_be_written_is_found_before_the_test(serve, bench, tmp_path):
    server = serve()
    done = bench(server.url(), "--html", tmp_path / "no" / "r.html", code=1, duration="60s")
    assert "r.html" in done.stderr and done.stdout == ""
    assert server.metric("wsgw_connections_accepted_total") == 0


def test_the_text_is_for_people(serve, bench):
    done = bench(serve().url(), "-c", "3", "--rate", "100")
    assert re.search(r"fanout, 3 connections, 128 bytes a message, 100 a second, 1\.0 s", done.stdout)
    assert re.search(r"sent +100 +100/s\n +received +300 +300/s\n +lost +0\n +duplicates +0\n",
                     done.stdout), done.stdout
    assert re.search(r"p50 +p90 +p99 +p99\.9 +max\n( +[\d.]+ (µs|ms|s)){5}\n", done.stdout)
    # Nothing of a progress bar where nobody sees it.
    assert done.stderr == ""


def test_a_progress_bar_on_a_terminal(serve, tmp_path):
    command = (WSGW, "bench")
    terminal = Terminal(tmp_path, serve().url(), "-d", "2s", "-c", "3", command=command)
    try:
        terminal.wait("measuring").wait(" received, ").wait("duplicates")
        assert terminal.exit() == 0
        assert "%" in terminal.plain
    finally:
        terminal.kill()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_with_the_report(serve, tmp_path, number):
    server = serve()
    page = tmp_path / "r.html"
    command = [WSGW, "bench", server.url(), "-d", "1h", "-c", "4", "--rate", "100", "--json",
               "--html", page]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=private_env(tmp_path)) as running:
        # The first 101 are from before the measurement.
        server.await_metric("wsgw_messages_received_total", 150)
        running.send_signal(number)
        found = json.loads(running.communicate(timeout=30)[0])
    assert running.returncode == 130
    assert found["received"] == 4 * found["sent"] > 0 and found["lost"] == 0
    assert 0 < found["seconds"] < 30 and "signal" in found["notes"][-1]
    assert "</html>" in page.read_text()


def test_a_signal_before_anything_was_measured(tmp_path):
    accepted = threading.Event()

    def handler(peer):
        accepted.set()
        peer.sock.recv(1)

    with PeerServer(handler) as server:
        command = [WSGW, "bench", server.url, "-c", "1"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              env=private_env(tmp_path)) as running:
            assert accepted.wait(30)
            running.send_signal(signal.SIGINT)
            out, err = running.communicate(timeout=30)
    assert running.returncode == 130 and out == b"" and b"before anything" in err


def test_it_leaves_the_cpu_alone_while_nothing_is_due(serve, tmp_path):
    url = serve().url()
    before = os.times()
    run_cli(tmp_path, "bench", url, "-c", "50", "--mode", "idle", "-d", "2s")
    after = os.times()
    used = after.children_user + after.children_system - before.children_user - before.children_system
    assert used < 1, used
