"""`wsgw connect --compress`: permessage-deflate, as servers of all kinds answer the offer."""

import json
import zlib

import pytest

from harness import PeerServer, close_and_wait, echo, encode_frame, run_connect, ws_server

OFFER = "permessage-deflate; client_no_context_takeover; client_max_window_bits"
DEFLATE = "Sec-WebSocket-Extensions: permessage-deflate{}\r\n"


def deflater(bits=15):
    return zlib.compressobj(wbits=-bits)


def packed(data, state=None):
    """A message as a server compresses it; with a state it refers to those before."""
    state = state or deflater()
    return (state.compress(data) + state.flush(zlib.Z_SYNC_FLUSH))[:-4]


def frame(first, payload):
    """One frame with this first byte."""
    return bytes([first]) + encode_frame(1, payload, masked=False)[1:]


def read_raw(peer):
    """The client's next frame: its first byte and its payload."""
    seen = []
    exactly = peer.exactly

    def noting(count):
        seen.append(exactly(count))
        return seen[-1]
    peer.exactly = noting
    _, payload = peer.read()
    peer.exactly = exactly
    return seen[0][0], payload


@pytest.mark.parametrize("server", [
    {}, {"server_no_context_takeover": True}, {"client_no_context_takeover": True},
    {"server_no_context_takeover": True, "client_no_context_takeover": True},
    {"server_max_window_bits": 9}, {"client_max_window_bits": 9}, {"client_max_window_bits": 12, "server_max_window_bits": 10},
], ids=lambda server: "-".join(server) or "all")
def test_messages_of_all_kinds_come_back(tmp_path, server):
    from websockets.extensions.permessage_deflate import ServerPerMessageDeflateFactory

    texts = ["hello", "hello", "", "ü" * 300, json.dumps(list(range(3000))), "x" * 100_000]
    flags = [flag for text in texts for flag in ("-x", text)]
    extensions = [ServerPerMessageDeflateFactory(**server)]
    with ws_server(echo, extensions=extensions, compression=None) as url:
        done = run_connect(tmp_path, "-v", "--compress", *flags, "-n", len(texts), url)
        assert (done.returncode, done.stdout.split("\n")[:-1]) == (0, texts), done.stderr[-3000:]
        assert f"> sec-websocket-extensions: {OFFER}" in done.stderr
        assert "< sec-websocket-extensions: permessage-deflate" in done.stderr
        blob = bytes(range(256)) * 1000
        done = run_connect(tmp_path, "--compress", "-b", "-n", 1, url, stdin=blob.replace(b"\n", b"") + b"\n")
        assert (done.returncode, done.stdout) == (0, blob.replace(b"\n", b"")), done.stderr


@pytest.mark.parametrize("takeover", [True, False])
def test_what_is_sent_is_compressed_within_the_window(tmp_path, takeover):
    seen = []

    def handler(peer):
        assert peer.header("sec-websocket-extensions") == [OFFER]
        peer.accept(more=DEFLATE.format("; client_max_window_bits=9" + "; client_no_context_takeover" * (not takeover)))
        seen.extend(read_raw(peer) for _ in range(4))
        peer.bye()
        peer.read_close()
    texts = ["word " * 400, "hi", "", "word " * 400]
    with PeerServer(handler) as server:
        done = run_connect(tmp_path, "--compress", *[flag for text in texts for flag in ("-x", text)], "-w", "-1", server.url)
        assert done.returncode == 0, done.stderr
    state = zlib.decompressobj(wbits=-9)
    for text, (first, payload) in zip(texts, seen):
        assert first == 0xc1 and len(payload) < 100
        assert state.decompress(payload + b"\0\0\xff\xff").decode() == text
        # Whatever was agreed on, no message needs the one before.
        if not takeover:
            state = zlib.decompressobj(wbits=-9)
    assert seen[3] == seen[0]


def test_a_window_is_kept_over_messages_and_not_over_connections(tmp_path):
    def handler(peer):
        peer.accept(more=DEFLATE.format(""))
        state = deflater()
        first = packed(b"one and the same", state)
        second = packed(b"one and the same", state)
        assert len(second) < len(first)
        # The first one in fragments, with a ping between them.
        peer.send(frame(0x41, first[:3]) + frame(0x89, b"p") + frame(0x00, first[3:4]) + frame(0x80, first[4:]))
        peer.send(frame(0xc1, second) + frame(0x81, b"plain") + frame(0xc2, packed(b"one", state)))
        if len(server.times) == 1:
            peer.bye(4000)
        else:
            close_and_wait(peer)
    with PeerServer(handler) as server:
        done = run_connect(tmp_path, "--compress", "--reconnect", server.url)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n") == ["one and the same", "one and the same", "plain", "b25l"] * 2 + [""]


def test_a_server_may_decline(tmp_path):
    with ws_server(echo, compression=None) as url:
        done = run_connect(tmp_path, "--compress", "-x", "x" * 1000, "-n", 1, url)
        assert (done.returncode, done.stdout) == (0, "x" * 1000 + "\n"), done.stderr


@pytest.mark.parametrize("answer", [
    "; x", "; server_max_window_bits", "; server_max_window_bits=16", "; server_max_window_bits=7",
    "; client_max_window_bits", "; client_max_window_bits=08", "; server_no_context_takeover=1",
    "; server_no_context_takeover; server_no_context_takeover", ", permessage-deflate", "; client_max_window_bits=\"",
])
def test_an_answer_that_may_not_be_is_a_wrong_handshake(tmp_path, answer):
    with PeerServer(lambda peer: peer.accept(more=DEFLATE.format(answer))) as server:
        done = run_connect(tmp_path, "--compress", server.url)
    assert done.returncode == 4 and "its answer to permessage-deflate is" in done.stderr, done.stderr


def test_nobody_compresses_without_an_offer(tmp_path):
    with PeerServer(lambda peer: peer.accept(more=DEFLATE.format(""))) as server:
        done = run_connect(tmp_path, server.url)
        assert done.returncode == 4 and "\"permessage-deflate\", which was not offered" in done.stderr
        done = run_connect(tmp_path, "--compress", "-H", "Sec-WebSocket-Extensions: x-other", server.url)
        assert done.returncode == 4 and "which was not offered" in done.stderr


def test_an_offer_of_the_users_takes_the_place_of_ours(tmp_path):
    def handler(peer):
        offer = "permessage-deflate; server_no_context_takeover"
        assert peer.header("sec-websocket-extensions") == [offer]
        peer.accept(more=DEFLATE.format("; server_no_context_takeover"))
        peer.send(frame(0xc1, packed(b"one")) + frame(0xc1, packed(b"two")))
        close_and_wait(peer)
    with PeerServer(handler) as server:
        done = run_connect(tmp_path, "-H", "Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover", server.url)
    assert (done.returncode, done.stdout) == (0, "one\ntwo\n"), done.stderr


@pytest.mark.parametrize("bytes_, code, said", [
    (frame(0xc1, b"\xff" * 10), 1007, "cannot be inflated"),
    (frame(0xc1, packed(b"\xff\xfe")), 1007, "not UTF-8"),
    (frame(0xc9, b""), 1002, "Reserved bits"),
    (frame(0xc0, b"x"), 1002, "Reserved bits"),
    (frame(0x41, packed(b"one")[:2]) + frame(0xc0, packed(b"one")[2:]), 1002, "Reserved bits"),
    (frame(0xe1, packed(b"one")), 1002, "Reserved bits"),
    (frame(0xa1, b"one"), 1002, "Reserved bits"),
    (frame(0x41, b"") + frame(0x81, b"one"), 1002, "begins within another one"),
    (frame(0x01, b"") + frame(0xc1, packed(b"one")), 1002, ""),
    (b"\xc1\x7f\x7f" + b"\xff" * 7, 1009, "a frame of 9223372036854775807 bytes"),
    (b"\xc1\x7e\0\1x", 1002, "shortest form"),
])
def test_violations_are_answered_with_their_codes(tmp_path, bytes_, code, said):
    codes = []

    def handler(peer):
        peer.accept(more=DEFLATE.format("; server_no_context_takeover"))
        peer.send(bytes_)
        codes.append(peer.read_close())
    with PeerServer(handler) as server:
        done = run_connect(tmp_path, "--compress", server.url)
    assert done.returncode == 1 and "the server broke the protocol: " in done.stderr and said in done.stderr, done.stderr
    assert codes == [code]


def test_a_message_that_is_cut_short_is_not_taken_for_a_whole_one(tmp_path):
    def handler(peer):
        peer.accept(more=DEFLATE.format("; server_no_context_takeover"))
        peer.send(frame(0xc1, packed(b"something longer")[:-1]))
        peer.read_close()
    with PeerServer(handler) as server:
        done = run_connect(tmp_path, "--compress", server.url)
    assert done.returncode == 1 and not done.stdout and "the server broke the protocol" in done.stderr, done.stderr


def test_a_bomb_stops_at_the_bound_of_a_message(tmp_path):
    codes = []
    state = deflater()
    mib = state.compress(bytes(1 << 20)) + state.flush(zlib.Z_FULL_FLUSH)

    def handler(peer):
        if codes:
            # It would come back for ever, but not to another protocol.
            return peer.accept()
        peer.accept(more=DEFLATE.format("") + "Sec-WebSocket-Protocol: wsgw.v1\r\n")
        # Far more than the 256 MiB of a frame of this protocol, in half a megabyte.
        peer.send(frame(0xc1, mib * 600))
        codes.append(peer.read_close())
    with PeerServer(handler) as server:
        done = run_connect(tmp_path, "--compress", "--resume", server.url, timeout=60)
        assert done.returncode == 4 and codes == [1009], done.stderr
        assert "the server broke the protocol: a message of 268" in done.stderr and "over 268435456" in done.stderr


def test_an_endless_message_of_nothing_keeps_nobody_from_leaving(tmp_path):
    def handler(peer):
        peer.accept(more=DEFLATE.format(""))
        peer.send(frame(0x41, b""))
        empty = frame(0x00, b"\0\0\0\xff\xff" * 1000)
        while True:
            peer.send(empty)
    with PeerServer(handler) as server:
        done = run_connect(tmp_path, "--compress", "-w", "0.3", server.url)
        assert (done.returncode, done.stdout) == (0, ""), done.stderr


def test_the_session_says_whether_it_is_compressed(terminal):
    with ws_server(echo) as url:
        t = terminal("--compress", url).wait(f"* connected to {url} (compressed)")
        t.type("/headers\r").wait("sec-websocket-extensions: permessage-deflate")
        t.type("hello\r").wait("< hello").type("/quit\r")
        assert t.exit() == 0
    with ws_server(echo, compression=None) as url:
        terminal("--compress", url).wait(f"* connected to {url} (not compressed: the server does not offer it)")
