"""What a delivery to clients of streams costs beside one to WebSocket clients, and what a stream that
says nothing takes, in the same rounds; run by `benches/compare.sh --streams`."""

import os
import socket
import statistics
import time


def server(c, *flags):
    binary = os.environ.get("WSGW_BIN", str(c.ROOT / "target/release/wsgw"))
    return c.Server(lambda port: [binary, "serve", "-q", "--control", "off", "--port", port,
                                  "--route", "all", "--streams", *flags])


def connect(port, form):
    """A client of one form; what begins its stream is read."""
    upgrade = ("Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
               "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: wsgw.v1\r\n")
    path, more = ("/", upgrade) if form == "wsgw.v1" else (f"/?stream={form}", "")
    s = socket.create_connection(("127.0.0.1", port), 10)
    s.sendall(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n{more}\r\n".encode())
    end = {"sse": b"}\n\n", "lines": b"}\n", "raw": b"\r\n\r\n", "wsgw.v1": b"}"}[form]
    data = b""
    while b"\r\n\r\n" not in data or not data.endswith(end):
        data += s.recv(4096)
    assert data.startswith((b"HTTP/1.1 200", b"HTTP/1.1 101")), data
    s.setblocking(False)
    return s


def crowd(c, s, form, count):
    if form == "websocket":
        return s.connect(count)
    new = [connect(s.port, form) for _ in range(count)]
    s.clients += new
    return new


def length(form, size):
    """Bytes that a client of this form gets of a message."""
    frame = size + len('{"message":""}')
    header = 2 if size < 126 else 4
    return {"websocket": size + header, "wsgw.v1": frame + (2 if frame < 126 else 4),
            "sse": frame + len("data: \n\n"), "lines": frame + 1, "raw": size + 1}[form]


def fanout(c, forms, burst=1, size=128):
    """CPU of a delivery to so many clients of each of these forms."""
    with server(c) as s:
        (sender,) = s.connect(1)
        sockets = [sender]
        for form, count in forms.items():
            sockets += crowd(c, s, form, count)
        message, own = c.frame(size)

        def send():
            sender.setblocking(True)
            sender.sendall(message * burst)
            sender.setblocking(False)
        bytes_ = own + sum(length(form, size) * count for form, count in forms.items())
        done, used = c.rounds(sockets, send, bytes_ * burst, s)
        return used / (done * burst * len(sockets))


def idle(c, form, count=10_000):
    """KiB of a client that is told nothing, and CPU to open it."""
    with server(c) as s:
        crowd(c, s, form, 1)
        time.sleep(0.3)
        empty, before = c.memory(s.process.pid), c.cpu(s.process.pid)
        crowd(c, s, form, count)
        opening = c.cpu(s.process.pid) - before
        time.sleep(1)
        return (c.memory(s.process.pid) - empty) / count, opening / count


def run(c, count):
    rows = {}

    def add(name, unit, figure, beside):
        rows.setdefault((name, unit), []).append((figure, beside))
    for _ in range(count):
        us = "µs a delivery"
        crowds = {f"1,000 `{form}`": {form: 1000} for form in ("sse", "lines", "raw", "wsgw.v1")}
        crowds["500 `sse`, 500 `websocket`"] = {"sse": 500, "websocket": 500}
        crowds["200 of each form"] = dict.fromkeys(("sse", "lines", "raw", "wsgw.v1", "websocket"), 200)
        for burst in (1, 16):
            for name, forms in crowds.items():
                # Right after each other: the machine is not the same all the time.
                beside = fanout(c, {"websocket": 1000}, burst)
                add(f"{name}, {burst} at once", us, fanout(c, forms, burst), beside)
        beside = fanout(c, {"websocket": 1000}, size=1024)
        add("1,000 `sse`, 1 KiB", us, fanout(c, {"sse": 1000}, size=1024), beside)
        memory, opening = idle(c, "websocket")
        for form in ("sse", "lines", "raw"):
            its_memory, its_opening = idle(c, form)
            add(f"an idle `{form}`", "KiB", its_memory, memory)
            add(f"an idle `{form}`", "µs to open", its_opening, opening)
    print(f"Medians of {count} interleaved rounds; the ratio is that of the pairs.\n")
    print("| what | unit | stream | WebSocket | ratio |\n|---|---|---|---|---|")
    for (name, unit), pairs in rows.items():
        ours, beside = (statistics.median(side) for side in zip(*pairs))
        ratio = statistics.median(a / b for a, b in pairs)
        print(f"| {name} | {unit} | {ours:,.3f} | {beside:,.3f} | {ratio:.2f} |", flush=True)
