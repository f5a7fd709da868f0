"""HTTP on a gateway's port: each answer carries the headers that its RFC asks for."""

import re
import shutil
import subprocess
import time
from email.utils import parsedate_to_datetime

import pytest

from harness import encode_frame, wait_until

ALLOW = "GET, HEAD, OPTIONS"
UPGRADE = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13",
           "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="}


def ask(server, first="GET / HTTP/1.1", headers=None, data=None):
    """Status, headers (a list for each name) and body of one answer; the connection ends after it."""
    link = server.raw()
    lines = [first, *(f"{n}: {v}" for n, v in ({"Host": "x", "Connection": "close"} | (headers or {})).items())]
    link.write(data or "\r\n".join(lines) + "\r\n\r\n")
    return read(link)


def read(link):
    got = b""
    while chunk := link.sock.recv(65536):
        got += chunk
    head, end, body = got.partition(b"\r\n\r\n")
    assert end, got
    first, *lines = head.decode().split("\r\n")
    found = {}
    for line in lines:
        name, _, value = line.partition(": ")
        found.setdefault(name.lower(), []).append(value)
    return int(first.split()[1]), found, body


def check(answer, status):
    """What every answer must have; returns its headers."""
    got, headers, body = answer
    assert got == status, (got, body)
    assert all(len(values) == 1 for values in headers.values()), headers
    headers = {name: values[0] for name, values in headers.items()}
    assert int(headers["content-length"]) == len(body)
    assert headers["content-type"].endswith("; charset=utf-8")
    assert abs(parsedate_to_datetime(headers["date"]).timestamp() - time.time()) < 60
    options = [option.strip().lower() for option in headers["connection"].split(",")]
    assert "close" in options
    assert ("upgrade" in headers) == ("upgrade" in options) == (status == 426)
    assert ("allow" in headers) == (status == 405)
    assert ("retry-after" in headers) == (status in (429, 503))
    return headers


@pytest.mark.parametrize("version", ["8", "12", "0", "x"])
def test_a_426_names_the_protocol_and_the_version_to_upgrade_to(serve, version):
    server = serve("--path", "/,/chat")
    headers = check(ask(server, headers=UPGRADE | {"Sec-WebSocket-Version": version}), 426)
    assert headers["upgrade"] == "websocket" and headers["sec-websocket-version"] == "13"
    # The other 426: no upgrade was asked for.
    headers = check(ask(server, "GET /chat HTTP/1.1"), 426)
    assert headers["upgrade"] == "websocket" and headers["sec-websocket-version"] == "13"


@pytest.mark.parametrize("more", [{}, UPGRADE | {"Connection": "Upgrade, close"}, {"Content-Length": "0"}])
@pytest.mark.parametrize("target", ["/", "/?check=1", "http://x/"])
def test_head_of_the_page_is_its_get_without_the_body(serve, target, more):
    server = serve()
    status, got, page = ask(server, f"GET {target} HTTP/1.1")
    assert status == 200 and b"WebSocket" in page
    status, headers, body = ask(server, f"HEAD {target} HTTP/1.1", more)
    assert (status, body) == (200, b"")
    assert headers.pop("date") and got.pop("date")
    assert headers == got and headers["content-length"] == [str(len(page))]


@pytest.mark.parametrize("target", ["/", "*", "/?check=1"])
def test_options_of_the_page_names_the_methods(serve, target):
    status, headers, body = ask(serve(), f"OPTIONS {target} HTTP/1.1")
    assert (status, body) == (200, b"")
    assert headers["allow"] == [ALLOW] and headers["content-length"] == ["0"]
    assert headers["connection"] == ["close"]


def test_head_and_options_elsewhere_are_as_get_is(serve):
    server = serve("--path", "/chat")
    for target, status in [("/chat", 426), ("/nope", 404)]:
        get = ask(server, f"GET {target} HTTP/1.1")
        check(get, status)
        head = ask(server, f"HEAD {target} HTTP/1.1")
        assert head[0] == status and head[2] == b""
        assert head[1]["content-length"] == [str(len(get[2]))]
    # No answer to HEAD has a body, whatever is wrong with the request.
    for more in ({"Host": "x\r\nHost: x"}, {"X": "y" * 40_000}, {"A B": "c"}):
        status, headers, body = ask(server, "HEAD / HTTP/1.1", more)
        assert status in (400, 431) and body == b"" and headers["content-length"] != ["0"]
    # A path that takes connections has methods to name; another one has nothing.
    assert ask(server, "OPTIONS /chat HTTP/1.1")[0] == 200
    assert ask(server, "OPTIONS /nope HTTP/1.1")[0] == 404
    assert ask(server, "OPTIONS / HTTP/1.1")[0] == 200


def test_health_checks_are_not_counted_as_refusals(serve):
    server = serve()
    for method in ("GET", "HEAD", "OPTIONS"):
        assert ask(server, f"{method} / HTTP/1.1")[0] == 200
    assert server.metric("wsgw_connections_refused_total") == 0


def test_curl_sees_a_healthy_server(serve):
    curl = shutil.which("curl")
    assert curl, "curl is missing: tests/run.sh installs it"
    url = f"http://127.0.0.1:{serve().port()}/"
    for flags in (["--head"], ["-X", "OPTIONS", "-i"], []):
        done = subprocess.run([curl, "-sS", "--max-time", "20", "--fail", *flags, url],
                              capture_output=True, text=True)
        assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "TRACE", "PATCH", "get"])
def test_a_405_names_the_methods(serve, method):
    headers = check(ask(serve(), f"{method} / HTTP/1.1"), 405)
    assert headers["allow"] == ALLOW


def test_each_refusal_by_the_gateway_is_a_whole_answer(serve):
    server = serve("--path", "/", "--handshake-timeout", "300ms", "--max-connections-per-ip", "1")
    check(ask(server, headers={"Upgrade": "h2c", "Connection": "Upgrade"}), 400)
    check(ask(server, data="nonsense\r\n\r\n"), 400)
    check(ask(server, data=b"\x16\x03\x01\x02\x00"), 400)
    check(ask(server, headers=UPGRADE | {"Origin": "https://evil.example"}), 403)
    check(ask(server, "GET /nope HTTP/1.1", UPGRADE), 404)
    check(ask(server, data="GET / HTTP/1.1\r\n"), 408)
    check(ask(server, headers={f"X-{n}": "y" for n in range(101)}), 431)
    held = server.raw().upgrade()
    check(ask(server, headers=UPGRADE), 429)
    held.close()
    full = serve("--max-connections", "1")
    held = full.raw().upgrade()
    check(ask(full, headers=UPGRADE), 503)
    held.write(encode_frame(1, "x"))
    assert held.read_frame() == (True, 1, b"x")


@pytest.mark.parametrize("status", [400, 401, 403, 404, 407, 418, 429, 451, 500, 503, 599])
def test_what_the_listener_refuses_is_a_whole_answer(serve, status):
    program = ["jq", "-c", "--unbuffered", f'. + {{"reject":{status},"reason":"because"}}']
    server = serve("--hooks", "onHandshake", listener=program)
    answer = ask(server, headers=UPGRADE)
    assert answer[2] == b"because"
    headers = check(answer, status)
    assert ("www-authenticate" in headers) == (status == 401)
    assert ("proxy-authenticate" in headers) == (status == 407)


def test_a_long_origin_is_cut_where_it_is_shown(serve):
    server = serve()
    answer = ask(server, headers=UPGRADE | {"Origin": "https://" + "x" * 20_000})
    check(answer, 403)
    assert b"cut at 256 bytes" in answer[2] and len(answer[2]) < 500
    server.await_log("refused: The origin")
    assert max(len(line) for line in server.log().splitlines()) < 700


def test_a_handshake_that_a_stop_cuts_off_is_a_503(serve):
    server = serve("--hooks", "onHandshake", "--drain", "0s", listener=["sleep", "1000"])
    link = server.raw().request()
    wait_until(lambda: server.metric("wsgw_listener_unanswered_events") == 1, "the question")
    server.signal()
    check(read(link), 503)
    assert server.wait() == 0


def test_no_answer_but_the_101_goes_on(serve):
    """The 101 has what RFC 6455 names and nothing that would end the connection."""
    link = serve().raw().request()
    status, headers, body = link.response()
    assert (status, body) == (101, "")
    assert set(headers) == {"upgrade", "connection", "sec-websocket-accept"}
    assert not re.search("close", headers["connection"], re.I)
