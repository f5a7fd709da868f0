"""What channels and history cost, each beside the same without them in the same rounds; run by
`benches/compare.sh --channels`."""

import json
import os
import pathlib
import socket
import statistics
import subprocess
import tempfile
import threading
import time

ROOMS = ["--channels", "query", "--allow-channels", "*", "--route", "channels"]
KEEPING = ["--history", "1000"]


def server(c, *flags, listener=(), mode=None):
    route = ["--route", mode] if mode else []
    flags = [*route, *flags, *(["--", *listener] if listener else [])]
    binary = os.environ.get("WSGW_BIN", str(c.ROOT / "target/release/wsgw"))
    return c.Server(lambda port: [binary, "serve", "-q", "--control", "off", "--port", port, *flags])


def fanout(c, flags, path, count, burst=1, others=0, mode=None, size=128):
    """CPU of a delivery to `count` clients, beside so many others that do not get it."""
    with server(c, *flags, mode=mode) as s:
        if others:
            s.connect(others, "/?channel=others")
        sockets = s.connect(count, path)
        message, length = c.frame(size)

        def send():
            sockets[0].setblocking(True)
            sockets[0].sendall(message * burst)
            sockets[0].setblocking(False)
        done, used = c.rounds(sockets, send, length * burst * count, s)
        return used / (done * burst * count)


def idle(c, flags, path, count=10_000):
    with server(c, *flags) as s:
        s.connect(1)
        time.sleep(0.3)
        empty = c.memory(s.process.pid)
        s.connect(count, path)
        time.sleep(1)
        return (c.memory(s.process.pid) - empty) / count


def fifo_listener(directory):
    """A producer that says what is written into a FIFO, and the FIFO's path."""
    path = pathlib.Path(directory) / "fifo"
    os.mkfifo(path)
    return path, ["cat", str(path)]


def joins(c, count=10_000):
    """CPU of a join and of a leave by the listener, without its own; microseconds each."""
    with tempfile.TemporaryDirectory() as directory:
        path, listener = fifo_listener(directory)
        feed = []
        opener = threading.Thread(target=lambda: feed.append(open(path, "wb", buffering=0)))
        opener.start()
        with server(c, "--hooks", "none", listener=listener) as s:
            opener.join()
            sockets = s.connect(count)
            pid = s.process.pid
            (child,) = (p for p in c.tree(pid) if p != pid)
            names = [f"k{n}" for n in range(1, count + 1000)]

            def say(command):
                """Tells the gateway, and waits until all clients have heard of it."""
                lines = [json.dumps({"command": command, "conn": n, "channel": "a"}) for n in names]
                before = c.cpu(pid) - c.cpu(child)
                feed[0].write(("\n".join(lines) + "\n").encode())
                settle(c, pid, child)
                return (c.cpu(pid) - c.cpu(child) - before) / count
            figures = say("join"), say("leave")
            sockets[0].close()
            return figures


def settle(c, pid, child):
    """Waits until the server has been idle for a moment."""
    last, since = c.cpu(pid), time.monotonic()
    while time.monotonic() < since + 0.3:
        time.sleep(0.05)
        now = c.cpu(pid)
        if now - last > 500:
            last, since = now, time.monotonic()


def first_frame(sock):
    """The first frame's JSON, from a socket that may have more behind it."""
    sock.setblocking(True)
    data = b""
    while len(data) < 4:
        data += sock.recv(1 << 16)
    length = data[1]
    start = 2
    if length == 126:
        length, start = int.from_bytes(data[2:4], "big"), 4
    while len(data) < start + length:
        data += sock.recv(1 << 16)
    return json.loads(data[start:start + length])


def framed(c, s, path):
    sock = socket.create_connection(("127.0.0.1", s.port), 10)
    sock.sendall(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{s.port}\r\nUpgrade: websocket\r\n"
                 "Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
                 "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: wsgw.v1\r\n\r\n".encode())
    head = b""
    while b"\r\n\r\n" not in head:
        head += sock.recv(1)
    return sock


def resume(c, messages=1000, times=100):
    """CPU of a resume of so many messages, and of their plain delivery to one client."""
    with server(c, *ROOMS, *KEEPING) as s:
        sockets = s.connect(1, "/?channel=a")
        hello = framed(c, s, "/?channel=a")
        at = first_frame(hello)["at"]
        hello.close()
        message, length = c.frame(128)
        before = c.cpu(s.process.pid)
        sockets[0].setblocking(True)
        sockets[0].sendall(message * messages)
        left = length * messages
        while left > 0:
            left -= len(sockets[0].recv(1 << 20))
        plain = c.cpu(s.process.pid) - before

        def come(path, expected):
            before = c.cpu(s.process.pid)
            for _ in range(times):
                client = c.connect(s.port, path)
                client.setblocking(True)
                left = expected
                while left > 0:
                    left -= len(client.recv(1 << 20))
                client.close()
            settle(c, s.process.pid, None)
            return (c.cpu(s.process.pid) - before) / times
        # The 101 may come with the first of them: a little less is enough to wait for.
        whole = come(f"/?channel=a&since={at}", length * messages - 66_000)
        alone = come("/?channel=a", 0)
        return whole - alone, plain


def keeping(c):
    """CPU of a message that is kept, more than of one that is not: one client, many messages."""
    def one(flags):
        with server(c, *ROOMS, *flags) as s:
            sockets = s.connect(1, "/?channel=a")
            message, length = c.frame(128)

            def send():
                sockets[0].setblocking(True)
                sockets[0].sendall(message * 64)
                sockets[0].setblocking(False)
            done, used = c.rounds(sockets, send, length * 64, s)
            return used / (done * 64)
    return one(KEEPING) - one([])


def file_rate(c, count=200_000):
    """Messages a second that a producer's channel takes with a file."""
    with tempfile.TemporaryDirectory() as directory:
        config = pathlib.Path(directory) / "wsgw.toml"
        produce = f"for n in range({count}): print('{{\"command\":\"send\",\"channel\":\"a\",\"message\":\"' + '%0128d' % n + '\"}}')"
        config.write_text(f"""
[control]
listen = "off"
[gateways.default]
port = 0
hooks = ["none"]
listener = ["sh", "-c", "read go < go; cat lines; exec sleep 1000"]
channels = "query"
allow-channels = ["*"]
[gateways.default.history]
channels = {{ "*" = 100000 }}
file = "history.db"
""")
        lines = subprocess.run(["python3", "-c", produce], stdout=subprocess.PIPE, check=True).stdout
        (pathlib.Path(directory) / "lines").write_bytes(lines)
        os.mkfifo(pathlib.Path(directory) / "go")
        binary = os.environ.get("WSGW_BIN", str(c.ROOT / "target/release/wsgw"))
        process = subprocess.Popen([binary, "serve", "-q", "--config", str(config)],
                                   stdout=subprocess.PIPE, text=True)
        try:
            address = process.stdout.readline().split("ws://")[1].split()[0]
            port = int(address.split(":")[1])
            client = c.connect(port, "/?channel=a")
            client.setblocking(True)
            _, length = c.frame(128)
            start = time.monotonic()
            (pathlib.Path(directory) / "go").write_text("go\n")
            left = length * count
            while left > 0:
                left -= len(client.recv(1 << 20))
            return count / (time.monotonic() - start)
        finally:
            process.kill()
            process.wait()


def latency(c, file, count=3000):
    """The 99th percentile of one message's way to its sender, in milliseconds."""
    with tempfile.TemporaryDirectory() as directory:
        config = pathlib.Path(directory) / "wsgw.toml"
        config.write_text(f"""
[control]
listen = "off"
[gateways.default]
port = 0
route = "channels"
channels = "query"
allow-channels = ["*"]
[gateways.default.history]
channels = {{ "*" = 1000 }}
{'file = "history.db"' if file else ''}
""")
        binary = os.environ.get("WSGW_BIN", str(c.ROOT / "target/release/wsgw"))
        process = subprocess.Popen([binary, "serve", "-q", "--config", str(config)],
                                   stdout=subprocess.PIPE, text=True)
        try:
            port = int(process.stdout.readline().split("ws://")[1].split(":")[1])
            client = c.connect(port, "/?channel=a")
            client.setblocking(True)
            message, length = c.frame(128)
            times = []
            for _ in range(count):
                start = time.monotonic()
                client.sendall(message)
                left = length
                while left:
                    left -= len(client.recv(left))
                times.append(time.monotonic() - start)
            return statistics.quantiles(times, n=100)[98] * 1000
        finally:
            process.kill()
            process.wait()


def run(c, count):
    rows = {}

    def add(name, unit, **figures):
        for side, figure in figures.items():
            rows.setdefault((name, unit), {}).setdefault(side, []).append(figure)
    for _ in range(count):
        us = "µs a delivery"
        for burst in (1, 16):
            add(f"1,000 clients in one channel, {burst} at once", us,
                ours=fanout(c, ROOMS, "/?channel=a", 1000, burst),
                beside=fanout(c, [], "/", 1000, burst, mode="all"))
        add("100 members among 10,000 connections", us,
            ours=fanout(c, ROOMS, "/?channel=a", 100, others=9_900),
            beside=fanout(c, [], "/", 100, mode="all"))
        add("1,000 clients, history in memory", us,
            ours=fanout(c, [*ROOMS, *KEEPING], "/?channel=a", 1000),
            beside=fanout(c, ROOMS, "/?channel=a", 1000))
        add("an idle connection in a channel", "KiB", ours=idle(c, ROOMS, "/?channel=a"),
            beside=idle(c, [], "/"))
        join, leave = joins(c)
        add("a join by the listener", "µs", ours=join)
        add("a leave", "µs", ours=leave)
        add("to keep a message", "µs", ours=keeping(c))
        ours, plain = resume(c)
        add("a resume of 1,000 messages, beside their delivery", "µs", ours=ours, beside=plain)
        add("messages with a file", "a second", ours=file_rate(c))
        add("a message with a file, 99th percentile", "ms", ours=latency(c, True),
            beside=latency(c, False))
    print(f"Medians of {count} interleaved rounds.\n")
    print("| what | unit | with | without | ratio |\n|---|---|---|---|---|")
    for (name, unit), sides in rows.items():
        ours = statistics.median(sides["ours"])
        beside = statistics.median(sides["beside"]) if "beside" in sides else None
        more = f"{beside:,.3f} | {ours / beside:.2f}" if beside else "– | –"
        print(f"| {name} | {unit} | {ours:,.3f} | {more} |", flush=True)
