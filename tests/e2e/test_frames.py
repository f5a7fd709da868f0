"""RFC 6455 with raw sockets: frames, fragments, control frames, violations."""

import struct

import pytest

from harness import close_payload, encode_frame


def expect_close(link, code):
    assert link.read_close()[0] == code
    assert link.at_eof(), "closed in order, not by a reset"


@pytest.fixture(params=[None, ["cat"]], ids=["alone", "cat"])
def link(serve, request):
    return serve("--route", "sender", listener=request.param).raw().upgrade()


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65535, 65536, 100_000])
@pytest.mark.parametrize("opcode", [1, 2])
def test_sizes(link, size, opcode):
    link.frame(opcode, b"a" * size)
    assert link.read_frame() == (True, opcode, b"a" * size)


def test_fragments_with_a_ping_between(link):
    link.frame(1, "a", fin=False)
    link.frame(0, "", fin=False)
    link.frame(9, b"now")
    link.frame(0, "\xe4", fin=True)
    assert link.read_frame() == (True, 10, b"now")
    assert link.read_frame() == (True, 1, "a\xe4".encode())


def test_fragments_with_a_ping_between_byte_by_byte(link):
    data = "grün".encode()
    frames = [encode_frame(1, data[:3], fin=False), encode_frame(9, "ping"),
              encode_frame(0, data[3:4], fin=False), encode_frame(0, data[4:])]
    for byte in b"".join(frames):
        link.write(bytes([byte]))
    assert link.read_frame() == (True, 10, b"ping")
    assert link.read_frame() == (True, 1, data)


def test_a_character_cut_in_two(link):
    data = "ä".encode()
    link.frame(1, data[:1], fin=False)
    link.frame(0, data[1:])
    assert link.read_frame() == (True, 1, data)


def test_byte_by_byte(link):
    for byte in encode_frame(1, "slow") + encode_frame(2, b"\x01" * 200):
        link.write(bytes([byte]))
    assert link.read_frame() == (True, 1, b"slow")
    assert link.read_frame() == (True, 2, b"\x01" * 200)


def test_ten_pings(link):
    for n in range(10):
        link.frame(9, str(n))
    assert [link.read_frame() for _ in range(10)] == [
        (True, 10, str(n).encode()) for n in range(10)]


def test_an_unasked_pong_is_ignored(link):
    link.frame(10, b"x")
    link.frame(1, "y")
    assert link.read_frame() == (True, 1, b"y")


@pytest.mark.parametrize(
    "data",
    [
        encode_frame(1, "x", masked=False),
        encode_frame(9, "x", masked=False),
        encode_frame(1, "x", rsv=1),
        encode_frame(1, "x", rsv=2),
        encode_frame(1, "x", rsv=4),
        encode_frame(3, "x"),
        encode_frame(7, "x"),
        encode_frame(11, "x"),
        encode_frame(15, "x"),
        encode_frame(9, "x", fin=False),
        encode_frame(8, close_payload(1000), fin=False),
        encode_frame(9, "x" * 126),
        encode_frame(8, close_payload(1000, b"x" * 124)),
        encode_frame(0, "x"),
        encode_frame(1, "x", fin=False) + encode_frame(1, "y"),
        encode_frame(8, b"\x03"),
    ],
    ids=lambda data: data[:4].hex(),
)
def test_a_violation_is_closed_with_1002(link, data):
    link.write(data)
    expect_close(link, 1002)


def test_a_length_beyond_all_bounds(link):
    link.write(b"\x81\xff" + b"\xff" * 8 + b"\0\0\0\0")
    # Both a violation and too large.
    assert link.read_close()[0] in (1002, 1009)


@pytest.mark.parametrize("code", [0, 999, 1004, 1005, 1006, 1016, 1100, 2000, 2999,
                                  5000, 65535])
def test_a_close_code_that_may_not_be_sent(link, code):
    link.frame(8, close_payload(code))
    expect_close(link, 1002)


@pytest.mark.parametrize("code", [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999,
                                  4000, 4999])
def test_a_good_close_is_echoed(link, code):
    link.frame(8, close_payload(code, "bye".encode()))
    expect_close(link, code)


def test_an_empty_close_is_answered_with_an_empty_one(link):
    link.frame(8)
    assert link.read_close() == (None, "")
    assert link.at_eof()


@pytest.mark.parametrize(
    "frames",
    [
        encode_frame(1, b"\xff"),
        encode_frame(1, b"\xc3"),
        encode_frame(1, b"\xed\xa0\x80"),
        encode_frame(1, b"\xf4\x90\x80\x80"),
        encode_frame(1, b"ok", fin=False) + encode_frame(0, b"\xfe"),
        encode_frame(8, struct.pack(">H", 1000) + b"\xff"),
    ],
    ids=lambda data: data.hex()[:16],
)
def test_bad_utf8_is_closed_with_1007(link, frames):
    link.write(frames)
    expect_close(link, 1007)


def test_messages_before_a_violation_are_answered(link):
    link.write(encode_frame(1, "good") + encode_frame(1, "bad", rsv=1) + encode_frame(1, "after"))
    assert link.read_frame() == (True, 1, b"good")
    expect_close(link, 1002)


def test_what_comes_after_a_violation_is_read_and_thrown_away(link):
    link.write(encode_frame(3, "x") + encode_frame(2, b"y" * 500_000))
    expect_close(link, 1002)


def test_frames_behind_a_close_are_ignored(link):
    link.write(encode_frame(8, close_payload(1000)) + encode_frame(1, "x") * 100)
    expect_close(link, 1000)


def test_an_extension_is_not_agreed_to(serve):
    server = serve()
    link = server.raw()
    link.request("/", {"Sec-WebSocket-Extensions": "permessage-deflate; client_max_window_bits"})
    status, headers, _ = link.response()
    assert status == 101
    assert "sec-websocket-extensions" not in headers


def test_a_violation_is_told_with_its_code(scripted):
    server = scripted()
    raw = server.raw().upgrade()
    raw.write(encode_frame(1, "x", rsv=1))
    expect_close(raw, 1002)
    (closed,) = server.record.wait("onClientClose")
    assert closed["code"] in (1002, 1006)
