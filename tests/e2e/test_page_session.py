"""The operators' page: who may see it, and what its session may do."""

import http.client
import json
import re
import socket
import ssl
import sys
import time
from urllib.parse import urlsplit

import pytest

from harness import PATIENCE, WSGW, certificate, free_port, run_cli, wait_until


def follow(server, url, method="GET", **headers):
    """Asks for a link as a browser does that has no session yet."""
    parts = urlsplit(url)
    assert parts.port == server.control_port
    return server.http(method, f"{parts.path}?{parts.query}", token=False, headers=headers)


def fresh_link(server):
    status, answer = server.api("POST", "/v1/open")
    assert (status, answer["expires_in"]) == (200, 60)
    assert re.fullmatch(rf"http://127\.0\.0\.1:{server.control_port}/\?code=[0-9a-f]{{32}}",
                        answer["url"])
    return answer["url"]


def session(server):
    """The cookie of a new session, as a browser sends it."""
    status, headers, _ = follow(server, fresh_link(server))
    assert status == 303
    return headers["set-cookie"].split(";")[0]


def ask(server, method, path, cookie, body=None, **headers):
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    return server.http(method, path, body, headers={"Cookie": cookie, **headers}, token=False)


def own_origin(server):
    return f"http://127.0.0.1:{server.control_port}"


def test_a_code_becomes_a_session_once(serve):
    server = serve()
    url = fresh_link(server)
    status, headers, body = follow(server, url)
    assert (status, headers["location"], body) == (303, "/", "")
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cache-control"] == "no-store"
    cookie, *attributes = headers["set-cookie"].split("; ")
    assert re.fullmatch(rf"wsgw-{server.control_port}=[0-9a-f]{{64}}", cookie)
    assert attributes == ["HttpOnly", "SameSite=Strict", "Path=/"]

    status, headers, body = ask(server, "GET", "/", cookie)
    assert status == 200 and headers["content-type"] == "text/html; charset=utf-8"
    assert "<title>wsgw" in body
    assert headers["content-security-policy"] == (
        "default-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'")
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cache-control"] == "no-store"

    status, headers, body = follow(server, url)
    assert status == 401 and "wsgw open" in body and "set-cookie" not in headers
    # The session goes on.
    assert ask(server, "GET", "/", cookie)[0] == 200
    # Neither code nor session is in the log.
    server.await_log(r"session 1 begins")
    assert cookie.split("=")[1] not in server.log() and url[-32:] not in server.log()


def test_head_uses_no_code_up(serve):
    server = serve()
    url = fresh_link(server)
    for _ in range(3):
        status, headers, _ = follow(server, url, "HEAD")
        assert (status, headers["location"]) == (303, "/")
        assert "set-cookie" not in headers
    assert follow(server, url)[0] == 303
    assert follow(server, url, "HEAD")[0] == 401


@pytest.mark.parametrize("path", ["/", "/?code=", "/?code=0", "/?code=" + "0" * 32, "/?code=%zz",
                                  "/?x=1"])
def test_without_a_session_there_is_a_page_that_says_how_to_get_one(serve, path):
    server = serve()
    fresh_link(server)
    for method in ("GET", "HEAD"):
        status, headers, body = server.http(method, path, token=False)
        assert status == 401, method
        assert headers["content-type"] == "text/html; charset=utf-8"
        assert headers["cache-control"] == "no-store"
        assert headers["www-authenticate"] == "Bearer"
        assert headers["content-security-policy"].startswith("default-src 'self';")
        assert ("<code>wsgw open</code>" in body) == (method == "GET")
        # Nothing on it needs more than its own files.
        assert "style=" not in body and "<script" not in body
    # The token opens no page: it is no session.
    assert server.http("GET", "/")[0] == 401


def test_the_files_of_the_page_are_public_and_kept_by_browsers(serve):
    server = serve()
    page = server.http("GET", "/", token=False)[2]
    files = re.findall(r'"(/page/[^"]+)"', page) + re.findall(
        r'"(/page/[^"]+)"', ask(server, "GET", "/", session(server))[2])
    assert "/page/locked.css" in files
    for name in files:
        status, headers, body = server.http("GET", name, token=False)
        assert status == 200 and body, name
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cache-control"] == "no-cache"
        again = {"If-None-Match": f'"x", W/{headers["etag"]}'}
        status, kept, body = server.http("GET", name, token=False, headers=again)
        assert (status, kept["etag"], body) == (304, headers["etag"], "")
        # A page of another origin does not load them.
        assert server.http("GET", name, token=False,
                           headers={"Origin": "http://evil.example"})[0] == 403
    for name in ("/page/", "/page/nope.js", "/page/../files/index.html", "/page/index.html"):
        assert server.http("GET", name, token=False)[0] == 404, name


def test_a_session_stands_in_for_the_token(serve):
    server = serve()
    cookie = session(server)
    origin = own_origin(server)
    assert ask(server, "GET", "/v1/gateways", cookie)[0] == 200
    for site in ("same-origin", "none"):
        assert ask(server, "GET", "/v1/gateways", cookie, Origin=origin,
                   Sec_Fetch_Site=site)[0] == 200
    # Browsers send all cookies of a host to all its ports.
    others = f"wsgw-1=x; {cookie}; wsgw-{server.control_port}=y; theme=dark"
    assert ask(server, "GET", "/v1/gateways", others)[0] == 200
    status, _, body = ask(server, "POST", "/v1/gateways/default/messages", cookie,
                          {"message": "hi"}, Origin=origin, X_Wsgw="1")
    assert status == 200 and json.loads(body)["matched"] == 0
    assert ask(server, "POST", "/v1/gateways/default/stop", cookie, Origin=origin,
               X_Wsgw="1")[0] == 200
    assert ask(server, "POST", "/v1/gateways/default/start", cookie, X_Wsgw="1")[0] == 200
    client = server.connect()
    conn = server.await_connections(1)[0]["conn"]
    assert ask(server, "DELETE", f"/v1/gateways/default/connections/{conn}", cookie, Origin=origin,
               X_Wsgw="1")[0] == 200
    assert client.await_close()[0] == 1000


@pytest.mark.parametrize("headers", [
    {"Origin": "http://evil.example"}, {"Origin": "null"}, {"Origin": ""},
    {"Origin": "http://127.0.0.1:1"}, {"Origin": "http://localhost"},
    {"Sec_Fetch_Site": "cross-site"}, {"Sec_Fetch_Site": "same-site"}, {"Sec_Fetch_Site": ""},
])
def test_no_other_page_may_use_the_session(serve, headers):
    server = serve()
    cookie = session(server)
    for method, path in (("GET", "/v1/gateways"), ("GET", "/v1/gateways/default/connections"),
                         ("POST", "/v1/gateways/default/stop"), ("POST", "/v1/open")):
        status, _, body = ask(server, method, path, cookie, X_Wsgw="1", **headers)
        assert status == 403, (method, path)
        assert json.loads(body)["error"]["code"] == "forbidden"
    # The page itself is not shown there either.
    status, _, body = ask(server, "GET", "/", cookie, **headers)
    assert status in (401, 403) and "<title>wsgw</title>" not in body
    assert server.status()["state"] == "running"


def test_the_scheme_of_the_origin_counts_and_the_host_has_to_be_ours(serve):
    server = serve()
    cookie = session(server)
    port = server.control_port
    assert ask(server, "GET", "/v1/gateways", cookie, Origin=f"https://127.0.0.1:{port}")[0] == 403
    assert ask(server, "GET", "/v1/gateways", cookie, Host=f"localhost:{port}",
               Origin=f"http://localhost:{port}")[0] == 200
    assert ask(server, "GET", "/v1/gateways", cookie, Host=f"evil.example:{port}",
               Origin=f"http://evil.example:{port}")[0] == 403
    assert ask(server, "GET", "/", cookie, Host="evil.example")[0] == 403
    assert server.http("GET", "/page/locked.css", token=False,
                       headers={"Host": "evil.example"})[0] == 403


def test_a_change_needs_the_header(serve):
    server = serve()
    cookie = session(server)
    origin = own_origin(server)
    for method, path in (("POST", "/v1/gateways/default/stop"), ("POST", "/v1/reload"),
                         ("POST", "/v1/gateways/default/messages"),
                         ("DELETE", "/v1/gateways/default/connections/k1")):
        for headers in ({}, {"X_Wsgw": "0"}, {"X_Wsgw": ""}):
            status, _, body = ask(server, method, path, cookie, Origin=origin, **headers)
            assert (status, json.loads(body)["error"]["code"]) == (403, "forbidden")
            assert "X-Wsgw: 1" in body
    assert server.status()["state"] == "running"


def test_a_token_with_an_origin_is_refused_as_ever(serve):
    server = serve()
    cookie = session(server)
    for headers in ({"Origin": own_origin(server)},
                    {"Origin": own_origin(server), "Cookie": cookie},
                    {"Origin": "http://evil.example", "Cookie": cookie}):
        assert server.http("GET", "/v1/gateways", headers=headers)[0] == 403
    # Without a session there is no page of ours that could have sent it.
    assert server.http("GET", "/v1/gateways", token=False,
                       headers={"Origin": own_origin(server)})[0] == 403
    # A wrong token is not mended by a cookie.
    assert server.http("GET", "/v1/gateways", token=False, headers={
        "Authorization": "Bearer x", "Cookie": cookie})[0] == 401


def test_a_session_makes_no_links(serve):
    server = serve()
    status, _, body = ask(server, "POST", "/v1/open", session(server), X_Wsgw="1",
                          Origin=own_origin(server))
    assert status == 403 and "wsgw open" in body


def test_a_session_is_of_this_serve_alone(serve):
    port = free_port()
    server = serve("--control", f"127.0.0.1:{port}", control=False, wait=False)
    server.control_port = port
    server.await_out(r"control listening on")

    def token():
        return json.loads((server.state / f"control-{port}.json").read_text())["token"]

    server.token = token()
    url = server.api("POST", "/v1/open")[1]["url"]
    cookie = session(server)
    assert ask(server, "GET", "/v1/gateways", cookie)[0] == 200
    server.stop()
    again = serve("--control", f"127.0.0.1:{port}", control=False, wait=False)
    again.control_port = port
    again.await_out(r"control listening on")
    status, _, body = ask(again, "GET", "/v1/gateways", cookie)
    assert status == 401 and "wsgw open" in body
    assert ask(again, "GET", "/v1/gateways", cookie, Origin=own_origin(again))[0] == 401
    assert ask(again, "GET", "/", cookie)[0] == 401
    assert follow(again, url)[0] == 401


def test_over_tls_the_cookie_is_secure(serve, tmp_path):
    cert, key = certificate(tmp_path)
    server = serve("--control", "127.0.0.1:0", control=False, wait=False, config=f"""
        [control]
        tls-cert = '{cert}'
        tls-key = '{key}'
        [gateways.a]
        port = 0
    """)
    port = int(server.await_out(r"control listening on https://\S+:(\d+)\n")[1])
    token = json.loads((server.state / f"control-{port}.json").read_text())["token"]
    context = ssl.create_default_context(cafile=cert)
    context.check_hostname = False

    def https(method, path, **headers):
        link = http.client.HTTPSConnection("127.0.0.1", port, context=context, timeout=PATIENCE)
        link.request(method, path, headers=headers)
        answer = link.getresponse()
        found = answer.status, dict(answer.getheaders()), answer.read().decode()
        link.close()
        return found

    url = json.loads(https("POST", "/v1/open", Authorization=f"Bearer {token}")[2])["url"]
    assert url.startswith(f"https://127.0.0.1:{port}/?code=")
    headers = https("GET", url[url.index("/?"):])[1]
    assert headers["set-cookie"].endswith("; HttpOnly; SameSite=Strict; Path=/; Secure")
    cookie = headers["set-cookie"].split(";")[0]
    assert https("GET", "/v1/gateways", Cookie=cookie, Origin=f"https://127.0.0.1:{port}")[0] == 200
    assert https("GET", "/v1/gateways", Cookie=cookie, Origin=f"http://127.0.0.1:{port}")[0] == 403


@pytest.mark.long
def test_a_link_is_good_for_a_minute(serve):
    server = serve()
    start = time.monotonic()
    url = fresh_link(server)
    # HEAD uses no code up.
    wait_until(lambda: follow(server, url, "HEAD")[0] == 401 or time.sleep(0.25), "its end", 90)
    assert 59 < time.monotonic() - start < 75
    assert follow(server, url)[0] == 401


def test_more_than_32_links_replace_the_oldest(serve):
    server = serve()
    links = [fresh_link(server) for _ in range(33)]
    assert follow(server, links[0])[0] == 401
    assert follow(server, links[1])[0] == 303


def test_a_unix_socket_has_no_page(serve, tmp_path):
    path = tmp_path / "control.sock"
    server = serve("--control", f"unix:{path}", control=False, wait=False)
    server.await_out(r"control listening on")

    def over_unix(method, target, headers=""):
        with socket.socket(socket.AF_UNIX) as link:
            link.settimeout(PATIENCE)
            link.connect(str(path))
            link.sendall(f"{method} {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
                         f"{headers}\r\n".encode())
            answer = b""
            while piece := link.recv(65536):
                answer += piece
        return answer.decode()

    for method, target in (("POST", "/v1/open"), ("GET", "/"), ("GET", "/?code=x"),
                           ("GET", "/page/locked.css")):
        answer = over_unix(method, target)
        assert answer.startswith("HTTP/1.1 404"), answer
        assert '"not_found"' in answer and "unix socket has no page" in answer
    for args in ((), ("--print",)):
        done = run_cli(server.dir, "open", *args, env={"WSGW_CONTROL": f"unix:{path}"})
        assert done.returncode == 1 and done.stdout == ""
        assert "has no page" in done.stderr and "--control ADDR:PORT" in done.stderr


# `wsgw open`.


def test_open_prints_a_link(serve):
    server = serve()
    done = server.cli("open", env={"DISPLAY": ":77"})
    assert (done.returncode, done.stderr) == (0, "")
    url = done.stdout.strip()
    assert done.stdout == f"{url}\n"
    assert follow(server, url)[0] == 303


def test_open_without_a_serve(serve, tmp_path):
    server = serve()
    server.stop()
    done = server.cli("open")
    assert done.returncode == 3 and "cannot reach the control port" in done.stderr
    done = server.cli("open", "--no-such-flag")
    assert done.returncode == 2


def browser_in(directory):
    """A program that stands in for the desktop's, and writes down what it is asked to open."""
    bin_dir = directory / "bin"
    bin_dir.mkdir()
    opened = directory / "opened"
    for name in ("xdg-open", "open"):
        program = bin_dir / name
        program.write_text(f'#!/bin/sh\nprintf %s "$1" > {opened}.part && mv {opened}.part {opened}\n')
        program.chmod(0o755)
    return bin_dir, opened


@pytest.mark.parametrize("desktop", ["DISPLAY", "WAYLAND_DISPLAY"])
def test_open_opens_a_browser_on_a_desktop(serve, terminal, tmp_path, desktop):
    server = serve()
    bin_dir, opened = browser_in(tmp_path)
    env = {"WSGW_CONTROL": server.control_url, "WSGW_TOKEN": server.token,
           "PATH": f"{bin_dir}:/usr/bin:/bin", desktop: ":77"}
    at = terminal(command=(WSGW, "open"), **env)
    assert at.exit() == 0
    url = at.plain.split()[0]
    assert "good once, within 60 s" in at.plain
    wait_until(opened.exists, "the browser")
    assert opened.read_text() == url
    assert follow(server, url)[0] == 303


def test_open_opens_none_without_a_desktop_or_with_print(serve, terminal, tmp_path):
    if sys.platform == "darwin":
        pytest.skip("every terminal there is on a desktop")
    server = serve()
    bin_dir, opened = browser_in(tmp_path)
    env = {"WSGW_CONTROL": server.control_url, "WSGW_TOKEN": server.token,
           "PATH": f"{bin_dir}:/usr/bin:/bin"}
    for command, more in (((WSGW, "open"), {"DISPLAY": "", "WAYLAND_DISPLAY": ""}),
                          ((WSGW, "open", "--print"), {"DISPLAY": ":77"})):
        at = terminal(command=command, **env, **more)
        assert at.exit() == 0
        assert "?code=" in at.plain
    # The program is started before the command ends, so it would be there.
    at = terminal(command=(WSGW, "open"), **{**env, "PATH": str(tmp_path)}, DISPLAY=":77")
    assert at.exit() == 0
    assert "xdg-open cannot be started" in at.plain and "?code=" in at.plain
    assert not opened.exists()
