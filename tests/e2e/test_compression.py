"""permessage-deflate (RFC 7692) as a server: what is agreed, what goes out, what comes in."""

import json
import os
import random
import ssl
import struct
import zlib

import pytest

from harness import certificate, encode_frame, read_length, rss_kib, wait_until

SHARED = ("--compression", "shared", "--ping-interval", "0")
OFFER = {"Sec-WebSocket-Extensions": "permessage-deflate"}
TAIL = b"\0\0\xff\xff"
PLAIN = "permessage-deflate; server_no_context_takeover; client_no_context_takeover"
MIB = 1 << 20


def compressed(data, level=6):
    state = zlib.compressobj(level, wbits=-15)
    return (state.compress(data) + state.flush(zlib.Z_SYNC_FLUSH)).removesuffix(TAIL)


def inflated(data, bits=15):
    """With a smaller window a byte at a time: what refers further back is an error."""
    if bits == 15:
        return zlib.decompress(data + TAIL + b"\x03\0", -15)
    state = zlib.decompressobj(-bits)
    out, rest = b"", data + TAIL
    while True:
        piece = state.decompress(rest, 1)
        rest = state.unconsumed_tail
        out += piece
        if not piece:
            return out


def offering(*parameters):
    return {"Sec-WebSocket-Extensions": "; ".join(["permessage-deflate", *parameters])}


def agree(server, path="/", headers=(), **options):
    """A raw client that has agreed on compression, and what was said to that."""
    link = server.raw(**options).request(path, dict(headers) or OFFER)
    status, found, body = link.response()
    assert status == 101, (status, body)
    return link, found.get("sec-websocket-extensions")


def read_message(link, bits=15):
    """Whether the next frame was compressed, its opcode, and its payload without that."""
    first, second = link.read_exactly(2)
    assert first & 0xB0 == 0x80, hex(first)
    payload = link.read_exactly(read_length(second, link.read_exactly))
    is_compressed = bool(first & 0x40)
    return is_compressed, first & 0x0F, inflated(payload, bits) if is_compressed else payload


def text(seed, size=2000):
    """JSON as programs write it."""
    rng = random.Random(seed)
    items = []
    while sum(map(len, items)) < size:
        items.append(json.dumps({"id": rng.randrange(10**6), "state": rng.choice(["on", "off"])}))
    return ",".join(items).encode()


# What is agreed.


@pytest.mark.parametrize("offer, said", [
    ("permessage-deflate", PLAIN),
    ("permessage-deflate; client_max_window_bits", PLAIN),
    ("permessage-deflate; client_max_window_bits=10; server_no_context_takeover", PLAIN),
    ("permessage-deflate; server_max_window_bits=8", PLAIN + "; server_max_window_bits=8"),
    ('permessage-deflate; server_max_window_bits="12"', PLAIN + "; server_max_window_bits=12"),
    ("permessage-deflate; server_max_window_bits=7", None),
    ("permessage-deflate; server_max_window_bits=16, permessage-deflate", PLAIN),
    ("permessage-deflate; what=1, permessage-deflate; server_max_window_bits=9",
     PLAIN + "; server_max_window_bits=9"),
    ("permessage-deflate; client_no_context_takeover; client_no_context_takeover", None),
    ("x-webkit-deflate-frame", None),
    ("permessage-deflate; server_max_window_bits=\"10", None),
    ("", None),
])  # fmt: skip
def test_offers(serve, offer, said):
    server = serve(*SHARED)
    assert agree(server, headers={"Sec-WebSocket-Extensions": offer})[1] == said


def test_offers_may_come_in_several_lines(serve):
    server = serve(*SHARED)
    lines = [("Sec-WebSocket-Extensions", value) for value in
             ("permessage-deflate; x", "permessage-deflate; server_max_window_bits=11")]
    link = server.raw().request("/", lines)
    assert link.response()[1]["sec-websocket-extensions"].endswith("=11")


def test_it_is_off_by_default(serve):
    server = serve("--route", "sender")
    link, said = agree(server)
    assert said is None
    link.frame(1, b"x" * 1000)
    assert read_message(link) == (False, 1, b"x" * 1000)
    link.frame(1, compressed(b"x"), rsv=4)
    assert link.read_close()[0] == 1002


def test_a_reload_holds_for_new_connections(serve):
    config = '[gateways.default]\nport = 0\nroute = "sender"\ncompression = "{}"\n'
    server = serve(config=config.format("shared"))
    old, _ = agree(server)
    server.reload(config.format("off"))
    new, said = agree(server)
    assert said is None
    for link, expected in (old, True), (new, False):
        link.frame(1, text(1))
        assert read_message(link) == (expected, 1, text(1))
    old.frame(1, compressed(text(2)), rsv=4)
    assert read_message(old) == (True, 1, text(2))
    server.reload(config.format("shared"))
    assert agree(server)[1] == PLAIN


# What goes out.


def test_each_client_gets_it_as_it_agreed(serve):
    server = serve(*SHARED, "--channels", "path", "--allow-channels", "*")
    clients = {bits: agree(server, headers=offering(f"server_max_window_bits={bits}"))[0]
               for bits in range(8, 16)}
    plain = server.raw().upgrade()
    small = text(3, 300)
    messages = [text(3, 40_000), small[:256], small[:255], b"{}", b"", random.Random(1).randbytes(5000)]
    for opcode in 1, 2:
        for message in messages if opcode == 2 else messages[:-1]:
            plain.frame(opcode, message)
            assert plain.read_frame() == (True, opcode, message)
            worth_it = len(message) >= 256 and len(message) != 5000
            for bits, client in clients.items():
                assert read_message(client, bits) == (worth_it, opcode, message), bits
    assert server.metric("wsgw_compression_input_bytes_total") > 0


def test_it_is_compressed_once_for_each_window(serve):
    server = serve(*SHARED)
    body = text(4, 4000)
    links = [agree(server)[0] for _ in range(20)]
    links += [agree(server, headers=offering("server_max_window_bits=10"))[0] for _ in range(20)]
    server.push(message=body.decode())
    for index, link in enumerate(links):
        assert read_message(link, 15 if index < 20 else 10) == (True, 1, body)
    shards = server.metric("wsgw_compression_input_bytes_total") / len(body)
    assert shards in range(2, 2 * os.cpu_count() + 1)
    became = server.metric("wsgw_compression_output_bytes_total")
    assert 0 < became < server.metric("wsgw_compression_input_bytes_total") / 2
    sent = server.metric("wsgw_delivered_bytes_total")
    assert 0 < sent < len(links) * len(body) / 2, "bytes as they went out"


def test_frames_of_the_subprotocol(serve):
    server = serve(*SHARED, "--channels", "path", "--allow-channels", "*", "--route", "channels",
                   "--protocol", "wsgw.v1")
    headers = {**OFFER, "Sec-WebSocket-Protocol": "wsgw.v1"}
    framed, _ = agree(server, "/room", headers)
    hello = read_message(framed)
    assert json.loads(hello[2])["hello"] == 1
    bare, _ = agree(server, "/room")
    plain = server.raw().upgrade("/room")
    body = text(5).decode()
    plain.frame(1, body)
    assert read_message(bare) == (True, 1, body.encode())
    was_compressed, opcode, frame = read_message(framed)
    assert (was_compressed, opcode) == (True, 1)
    assert json.loads(frame) == {"message": body, "channel": "room"}
    assert plain.read_frame() == (True, 1, body.encode())
    # 200 bytes are too few, but more than 256 as base64 in a frame.
    plain.frame(2, bytes(200))
    assert read_message(bare) == (False, 2, bytes(200))
    assert read_message(framed)[0]


def test_several_named_connections(serve):
    listener = ["python3", "-uc", (
        "import sys, json\n"
        "names = []\n"
        "for line in sys.stdin:\n"
        "    event = json.loads(line)\n"
        "    if event['event'] == 'onClientOpen':\n"
        "        names.append(event['conn'])\n"
        "    if event['event'] == 'onMessage':\n"
        "        print(json.dumps({'id': event['id'], 'message': event['message'],"
        " 'connections': names}))\n"
    )]  # fmt: skip
    server = serve(*SHARED, listener=listener)
    deflating = [agree(server)[0] for _ in range(10)]
    plain = [server.raw().upgrade() for _ in range(10)]
    body = text(6)
    for opcode, data in (1, compressed(body)), (1, compressed(b"short")):
        deflating[0].frame(opcode, data, rsv=4)
    for link in deflating:
        assert read_message(link) == (True, 1, body)
        assert read_message(link) == (False, 1, b"short")
    for link in plain:
        assert read_message(link) == (False, 1, body)
        assert read_message(link) == (False, 1, b"short")


def test_bursts_keep_their_order(serve):
    """Many messages of all kinds at once, to clients of all kinds, one of which takes little in."""
    server = serve(*SHARED, "--route", "all", "--max-queue", "64MiB")
    links = [(agree(server)[0], 15) for _ in range(6)]
    links += [(agree(server, headers=offering("server_max_window_bits=9"))[0], 9)]
    links += [(agree(server, receive_buffer=4096)[0], 15)]
    links += [(server.raw().upgrade(), None), (server.narrow(), None)]
    sender = server.raw().upgrade()
    rng = random.Random(7)
    messages = [text(n, rng.choice([10, 200, 300, 5000])) + str(n).encode() for n in range(400)]
    sender.write(b"".join(encode_frame(1, message) for message in messages))
    for link, bits in links:
        for message in messages:
            was_compressed, _, got = read_message(link, bits or 15)
            assert got == message
            assert was_compressed == (bits is not None and len(message) >= 256)


@pytest.mark.parametrize("compression", [None, "deflate"])
@pytest.mark.parametrize("listener", [None, ["cat"]])
def test_websockets(serve, compression, listener):
    server = serve(*SHARED, "--route", "sender", listener=listener)
    client = server.connect(compression=compression)
    for size in 0, 1, 255, 256, 1000, 70_000, MIB // 2:
        for message in "ä" * (size // 2), random.Random(size).randbytes(size), "x" * size:
            client.send(message)
            assert client.recv() == message


def test_what_is_replayed_is_not_compressed(serve):
    server = serve(*SHARED, "--history", "10")
    server.push(message=text(8).decode())
    link, _ = agree(server, "/?since=last")
    assert read_message(link) == (False, 1, text(8))
    server.push(message=text(9).decode())
    assert read_message(link) == (True, 1, text(9))


def test_over_tls(serve, tmp_path):
    chain, key = certificate(tmp_path)
    server = serve(*SHARED, "--route", "sender", "--tls-cert", chain, "--tls-key", key)
    context = ssl.create_default_context(cafile=chain)
    link, said = agree(server, tls=context)
    assert said == PLAIN
    link.frame(1, compressed(text(10)), rsv=4)
    assert read_message(link) == (True, 1, text(10))


# What comes in.


@pytest.fixture(params=[None, ["cat"]], ids=["alone", "cat"])
def link(serve, request):
    server = serve(*SHARED, "--route", "sender", listener=request.param)
    return agree(server)[0]


def test_fragments(link):
    body = text(11, 3000) + "grün".encode()
    data = compressed(body)
    link.frame(1, data[:1], fin=False, rsv=4)
    link.frame(0, b"", fin=False)
    link.frame(9, b"now")
    for byte in data[1:-1]:
        link.frame(0, bytes([byte]), fin=False)
    link.frame(0, data[-1:])
    assert link.read_frame() == (True, 10, b"now")
    assert read_message(link) == (True, 1, body)
    # Some are compressed, others are not.
    link.frame(1, b"plain")
    link.frame(2, compressed(b"\xff\xfe"), rsv=4)
    link.frame(1, b"\0", rsv=4)
    link.frame(1, b"", rsv=4)
    for message in (1, b"plain"), (2, b"\xff\xfe"), (1, b""), (1, b""):
        assert read_message(link) == (False, *message)


def test_blocks_of_all_kinds(link):
    """The examples of RFC 7692 section 7.2.3."""
    for data in (
        "f248cdc9c90700", "000500faff48656c6c6f00", "f348cdc9c9070000", "f248050000 00ffffcac9c90700"
    ):
        link.frame(1, bytes.fromhex(data), rsv=4)
        assert read_message(link) == (False, 1, b"Hello")
    for level in range(10):
        link.frame(1, compressed(text(level), level), rsv=4)
        assert read_message(link) == (True, 1, text(level))


@pytest.mark.parametrize("frames, code", [
    ([(0x0, compressed(b"x"), 4)], 1002),
    ([(0x9, b"x", 4)], 1002),
    ([(0xA, b"x", 4)], 1002),
    ([(0x8, struct.pack(">H", 1000), 4)], 1002),
    ([(0x1, compressed(b"x"), 2)], 1002),
    ([(0x1, compressed(b"x"), 1)], 1002),
    ([(0x1, compressed(b"x"), 6)], 1002),
    ([(0x3, compressed(b"x"), 4)], 1002),
    ([(0x1, b"not compressed at all", 4)], 1007),
    ([(0x1, compressed(text(1))[:-1], 4)], 1007),
    ([(0x1, bytes.fromhex("02001100 00"), 4)], 1007),
    ([(0x1, compressed(b"\xff"), 4)], 1007),
    ([(0x1, compressed("ä".encode()[:1]), 4)], 1007),
    ([(0x1, compressed(b"x") + TAIL, 4)], 1007),
])  # fmt: skip
def test_violations(link, frames, code):
    for opcode, payload, rsv in frames:
        link.frame(opcode, payload, rsv=rsv)
    assert link.read_close()[0] == code
    assert link.at_eof()


@pytest.mark.parametrize("first", [0, 4])
def test_rsv1_on_a_continuation(link, first):
    data = compressed(text(1)) if first else b"plain text"
    link.frame(1, data[:10], fin=False, rsv=first)
    link.frame(0, data[10:], rsv=4)
    assert link.read_close()[0] == 1002


def test_max_message_holds_for_what_comes_out(serve):
    server = serve(*SHARED, "--route", "sender", "--max-message", "10000")
    link, _ = agree(server)
    link.frame(2, compressed(b"x" * 10_000), rsv=4)
    assert read_message(link) == (True, 2, b"x" * 10_000)
    # What cannot be compressed gets longer, and is within the bound all the same.
    noise = random.Random(2).randbytes(10_000)
    data = compressed(noise, 0)
    assert len(data) > 10_000
    link.frame(2, data, rsv=4)
    assert read_message(link) == (False, 2, noise)
    link.frame(2, compressed(b"x" * 10_001), rsv=4)
    assert link.read_close() == (1009, "message too big")


def bombs():
    deep = compressed(b"\0" * (200 * MIB), 9)
    return {
        "one frame": [(2, deep, True, 4)],
        "fragments": [(2, deep[:1], False, 4)]
        + [(0, deep[n:n + 50], False, 0) for n in range(1, 100_000, 50)]
        + [(0, deep[100_000:], True, 0)],
        "a text": [(1, compressed(b"x" * (50 * MIB), 9), True, 4)],
        "too long as it comes": [(2, b"\0\0\0\xff\xff" * (MIB // 4), True, 4)],
    }  # fmt: skip


@pytest.mark.parametrize("kind, frames", bombs().items())
def test_bombs(serve, kind, frames):
    server = serve(*SHARED, "--route", "sender")
    other, _ = agree(server)
    other.frame(2, compressed(b"x" * MIB), rsv=4)
    assert read_message(other)[2] == b"x" * MIB
    before = rss_kib(server.proc.pid)
    for _ in range(5):
        link, _ = agree(server)
        link.write(b"".join(encode_frame(opcode, payload, fin, rsv=rsv)
                            for opcode, payload, fin, rsv in frames))
        assert link.read_close()[0] == 1009, kind
        link.close()
    assert rss_kib(server.proc.pid) < before + 16 * 1024
    other.frame(1, b"still here")
    assert read_message(other) == (False, 1, b"still here")


def test_many_large_messages_do_not_keep_others_waiting(serve):
    """1 KiB becomes 1 MiB, 64 of these fit in one read: others get their turns all the same."""
    server = serve(*SHARED, "--route", "none")
    link, _ = agree(server)
    frame = encode_frame(2, compressed(bytes(MIB), 9), rsv=4)
    assert len(frame) < 1100
    count = 400
    link.write(frame * count)
    other = server.raw().upgrade()
    other.frame(9, b"?")
    assert other.read_frame() == (True, 10, b"?")
    seen = server.metric("wsgw_messages_received_total")
    server.await_metric("wsgw_messages_received_total", count, timeout=60)
    assert seen < count, "the answer came before the last of them was inflated"


def test_nothing_is_inflated_for_a_client_that_has_been_closed(serve):
    server = serve(*SHARED, "--route", "none")
    link, _ = agree(server)
    name = server.await_connections(1)[0]["conn"]
    assert server.cli("close", "default", name).returncode == 0
    link.read_close()
    link.write(encode_frame(2, compressed(bytes(MIB), 9), rsv=4) * 200)
    # Good or bad, it is thrown away; the Close behind it is seen.
    link.frame(1, b"not compressed", rsv=4)
    link.frame(8, struct.pack(">H", 1000))
    assert link.at_eof()
    assert server.metric("wsgw_messages_received_total") == 0


def test_memory_of_idle_connections(serve):
    """What has been compressed and inflated for a connection stays with its shard."""
    server = serve(*SHARED, "--route", "sender")

    def crowd(headers):
        before = rss_kib(server.proc.pid)
        links = [server.raw().request("/", headers) for _ in range(300)]
        for one in links:
            assert one.response()[0] == 101
            one.frame(1, compressed(text(1)) if headers else text(1), rsv=4 if headers else 0)
            assert read_message(one)[2] == text(1)
        return rss_kib(server.proc.pid) - before

    crowd({})
    crowd(OFFER)
    plain, deflating = crowd({}), crowd(OFFER)
    assert deflating < plain + 600, (plain, deflating)


def test_metrics_count_bytes_as_they_came(serve):
    server = serve(*SHARED, "--route", "none")
    link, _ = agree(server)
    data = compressed(text(1))
    link.frame(1, data, rsv=4)
    server.await_metric("wsgw_messages_received_total", 1)
    wait_until(lambda: server.metric("wsgw_received_bytes_total") == len(data), "the bytes")
