"""What compression costs: a message of JSON to many clients, one at a time, compressed and not in the same
rounds; run by `benches/compare.sh --compression`."""

import json
import os
import random
import statistics

OFFER = "permessage-deflate; server_no_context_takeover; client_no_context_takeover"
CLIENTS = 1000


def text(size):
    """JSON as programs write it, of so many bytes."""
    rng = random.Random(size)
    words = ["temperature", "humidity", "pressure", "status", "warning", "north", "south", "sensor", "value"]
    items = []
    while len(body := json.dumps({"type": "update", "items": items})) < size:
        items.append({"id": rng.randrange(100_000), "name": rng.choice(words), "unit": rng.choice(words),
                      "value": round(rng.uniform(0, 1000), 2)})
    return (body[:size - 2] + "]}").encode()


def frame(payload):
    """A client's frame, not compressed."""
    mask = b"\1\2\3\4"
    size = len(payload)
    head = bytes([0x81, 0xFE]) + size.to_bytes(2, "big") if size < 65536 \
        else bytes([0x81, 0xFF]) + size.to_bytes(8, "big")
    return head + mask + bytes(b ^ mask[i % 4] for i, b in enumerate(payload))


def frame_length(sock):
    """Reads one frame; its bytes, and whether it is compressed."""
    sock.settimeout(10)
    data = b""
    while True:
        data += sock.recv(1 << 18)
        if len(data) >= 10:
            size, head = data[1] & 127, 2
            if size == 126:
                size, head = int.from_bytes(data[2:4], "big"), 4
            elif size == 127:
                size, head = int.from_bytes(data[2:10], "big"), 10
            if len(data) >= head + size:
                assert len(data) == head + size, "one message at a time"
                return len(data), bool(data[0] & 0x40)


def fanout(c, command, offers, size, count):
    """CPU of a delivery, and bytes of a frame."""
    with c.Server(command) as server:
        headers = f"Sec-WebSocket-Extensions: {OFFER}\r\n" if offers else ""
        sockets = server.connect(count, headers=headers)
        message = frame(text(size))

        def send():
            sockets[0].setblocking(True)
            sockets[0].sendall(message)
            sockets[0].setblocking(False)
        send()
        length, compressed = frame_length(sockets[-1])
        assert compressed == offers
        for sock in sockets[:-1]:
            assert frame_length(sock) == (length, compressed)
        for sock in sockets:
            sock.setblocking(False)
        done, used = c.rounds(sockets, send, length * count, server)
        return used / (done * count), length


def peers(c):
    def bun(port, compresses):
        script = c.ROOT / f"target/tests/bench/compression{int(compresses)}.mjs"
        text = c.BUN
        if compresses:
            text = text.replace("perMessageDeflate: false", "perMessageDeflate: true")
            text = text.replace('server.publish("all", text)', 'server.publish("all", text, true)')
        script.write_text(text)
        return [os.environ["BUN"], str(script), port, "all", "none"]

    def node(port, compresses):
        options = "{ threshold: 256 }" if compresses else "false"
        return ["node", "-e", c.NODE.replace("perMessageDeflate: false", f"perMessageDeflate: {options}"), port, "all"]

    def wsgw(port, compresses):
        binary = os.environ.get("WSGW_BIN", str(c.ROOT / "target/release/wsgw"))
        mode = "shared" if compresses else "off"
        return [binary, "serve", "-q", "--control", "off", "--port", port, "--route", "all", "--compression", mode]

    return {"wsgw": wsgw, "Bun": bun, "Node ws": node}


def run(c, count):
    print(f"µs CPU a delivery to {CLIENTS} clients, medians of {count} interleaved rounds.\n")
    print("| server | bytes of JSON | plain | compressed | ratio | bytes of a compressed frame |\n|---|---|---|---|---|---|")
    for size in [1024, 256, 16384]:
        figures = {}
        for _ in range(count):
            for name, peer in peers(c).items():
                for compresses in False, True:
                    figure = fanout(c, lambda port: peer(port, compresses), compresses, size, CLIENTS)
                    figures.setdefault((name, compresses), []).append(figure)
        for name in peers(c):
            plain, compressed = (statistics.median(cost for cost, _ in figures[name, on]) for on in (False, True))
            print(f"| {name} | {size} | {plain:.2f} | {compressed:.2f} | {compressed / plain:.2f} | "
                  f"{figures[name, True][0][1]} |", flush=True)
