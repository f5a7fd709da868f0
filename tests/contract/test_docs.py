"""What README and docs show is run, what they promise is compared, and the examples work."""

import json
import os
import re
import shutil
import signal
import subprocess
import time

import pytest
from websockets.exceptions import InvalidStatus

from harness import ROOT, WSGW, private_env, run_cli, wait_until, ws_client

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(page, kind):
    return re.findall(rf"^```{kind}\n(.*?)^```$", page.read_text(), re.M | re.S)


def tool(name):
    """A program that tests/run.sh installs; its absence is a failure, not a pass."""
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin")
    assert found, f"{name} is missing: tests/run.sh installs it"
    return found


@pytest.mark.parametrize("page", [p for p in PAGES if blocks(p, "sh test")], ids=lambda p: p.name)
def test_the_commands_shown_run(serve, page):
    """A client that echoes nothing is there, for those who wait for a message."""
    server = serve(listener=["cat"])
    server.connect()
    default = f"ws://127.0.0.1:{server.port()}/"
    for block in blocks(page, "sh test"):
        block = block.replace("ws://127.0.0.1:10125/", default)
        block = re.sub(r"\bwsgw connect -", f"wsgw connect {default} -", block)
        env = {**server.env, "PATH": f"{os.path.dirname(WSGW)}:{os.environ['PATH']}"}
        done = subprocess.run(["bash", "-euo", "pipefail", "-c", block], env=env, text=True,
                              stdin=subprocess.DEVNULL, capture_output=True, timeout=60, cwd=ROOT)
        assert done.returncode == 0, (block, done.stdout, done.stderr)


def test_every_serve_that_is_shown_serves(serve):
    """`wsgw serve …` lines of all pages, but for the port."""
    shown = {line for page in PAGES for block in blocks(page, "sh") for line in block.splitlines()
             if line.startswith("wsgw serve ")}
    assert len(shown) >= 6
    for n, line in enumerate(sorted(shown)):
        args = line.removeprefix("wsgw serve ")
        server = serve(name=f"shown{n}", cwd=ROOT, wrap=("bash", "-c",
                       f'exec "$0" "$@" {args}'.replace('"$@"', '"${@}"')))
        a, b = server.connect(), server.connect()
        server.await_connections(2)
        a.send("hi")
        assert b.recv() in ("hi", "HI", "> hi"), line
        server.stop()


def test_the_table_of_limits_agrees_with_the_flags(tmp_path):
    help_text = re.sub(r"\s+", " ", run_cli(tmp_path, "serve", "--help").stdout)
    page = (ROOT / "docs/operations.md").read_text()
    table = page[page.index("<!-- limits"):]
    rows = re.findall(r"^\| `([a-z-]+)` \| (\S+) \|", table, re.M)
    assert len(rows) >= 15
    for key, default in rows:
        found = re.search(rf"--{key} <[^>]+> (.*?)\[default: ([^\]]*)\]", help_text)
        assert found, key
        assert found[2] == default, key


def test_every_metric_that_is_named_is_there(serve):
    server = serve(listener=["cat"])
    text = server.http("GET", "/metrics", token=False)[2]
    for page in PAGES:
        for name in set(re.findall(r"`(wsgw_\w+)`", page.read_text())):
            assert f"# TYPE {name} " in text, (page.name, name)


def test_every_flag_that_is_named_is_there(tmp_path):
    known = ""
    for command in ("serve", "send", "connect", "status", "restart", "close", "reload"):
        known += run_cli(tmp_path, command, "--help").stdout
    for page in PAGES:
        for line in re.findall(r"`(wsgw [^`]+)`", page.read_text()):
            for flag in re.findall(r"(?<= )--[a-z][a-z-]+", line.split(" -- ")[0]):
                assert flag in known, (page.name, line)


def test_links_lead_somewhere():
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
            if not target.startswith("http"):
                assert (page.parent / target).exists(), (page.name, target)


# The examples.


@pytest.mark.parametrize("listener", [["python3", "upper.py"], ["node", "upper.js"],
                                      ["bash", "upper.sh"],
                                      ["jq", "-c", "--unbuffered", ".message |= ascii_upcase"]])
def test_upper(serve, listener):
    tool(listener[0])
    tool("jq")
    server = serve(listener=listener, cwd=ROOT / "examples")
    a, b = server.connect(), server.connect()
    server.await_connections(2)
    a.send('hällo "x"')
    assert a.recv().upper() == b.recv().upper() == 'HÄLLO "X"'.upper()
    a.send("abc")
    assert a.recv() == b.recv() == "ABC"
    assert server.metric("wsgw_listener_faults_total") == 0


def chat(serve):
    return serve("--restart-delay-max", "200ms",
                 listener=["python3", ROOT / "examples/chat/chat.py"])


def said(client):
    """The next thing that somebody said; who came and went aside."""
    while True:
        found = json.loads(client.recv())
        if "text" in found:
            return found["from"], found["text"]


def test_chat(serve):
    server = chat(serve)
    ann, bob = server.connect("/lobby?nick=ann"), server.connect("/lobby?nick=bob")
    eve = server.connect("/other?nick=eve")
    while "bob came" not in ann.recv():
        pass
    while "eve came" not in eve.recv():
        pass
    ann.send("hi")
    assert said(ann) == said(bob) == ("ann", "hi")
    ann.send("/nick annie")
    ann.send("me again")
    assert said(bob) == ("annie", "me again")
    eve.send("alone here")
    assert said(eve) == ("eve", "alone here")
    server.push(message="from outside")
    assert json.loads(bob.recv())["info"] == "from outside"
    assert server.metric("wsgw_listener_faults_total") == 0


def test_chat_goes_on_after_its_death(serve):
    server = chat(serve)
    ann, bob = server.connect("/lobby?nick=ann"), server.connect("/lobby?nick=bob")
    while "bob came" not in ann.recv():
        pass
    old = server.status()["listener_pid"]
    os.kill(old, signal.SIGKILL)
    wait_until(lambda: server.status()["listener_pid"] not in (None, old), "the new listener")
    ann.send("still there?")
    assert said(bob) == ("ann", "still there?")
    # Nobody is said to have come once more.
    bob.close()
    assert "left" in wait_info(ann)
    assert server.status()["restarts"] == 1


def wait_info(client):
    while True:
        found = json.loads(client.recv())
        if "info" in found:
            assert "came" not in found["info"]
            return found["info"]


def test_chat_survives_a_message_of_somebody_who_left():
    """A message whose sender's close was told comes again alone, after a restart."""
    lines = ['{"id":7,"event":"onMessage","conn":"k1","message":"x","redelivered":true}',
             '{"id":8,"event":"onClientClose","conn":"k1","message":"","code":1006,"reason":"",'
             '"clean":false}']
    done = subprocess.run(["python3", ROOT / "examples/chat/chat.py"], text=True,
                          input="\n".join(lines) + "\n", capture_output=True, timeout=20)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[0])["id"] == 7


def test_vmstat(serve):
    tool("vmstat")
    server = serve("--hooks", "none", listener=["bash", ROOT / "examples/vmstat.sh"])
    a = server.connect()
    assert len(a.recv().split()) >= 15


def test_crontab(serve):
    """Each line, as cron runs it: /bin/sh, a small environment, no stdin."""
    server = serve()
    a = server.connect()
    server.await_connections(1)
    lines = [re.sub(r"^(\S+\s+){5}", "", line)
             for line in (ROOT / "examples/crontab").read_text().splitlines()
             if re.match(r"[0-9*]", line)]
    assert len(lines) == 2
    env = {"PATH": f"{os.path.dirname(WSGW)}:/usr/bin:/bin", "HOME": server.env["HOME"],
           "XDG_STATE_HOME": server.env["XDG_STATE_HOME"], "SHELL": "/bin/sh"}
    for line in lines:
        done = subprocess.run(["/bin/sh", "-c", line], env=env, stdin=subprocess.DEVNULL,
                              capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done
        # cron mails what is printed.
        assert done.stdout == ""
    assert "load average" in a.recv()
    assert a.recv() == "backup FAILED"


def test_the_example_config_is_whole(serve, tmp_path):
    text = (ROOT / "examples/wsgw.toml").read_text()
    flags = set(re.findall(r"^ +--([a-z-]+) <", run_cli(tmp_path, "serve", "--help").stdout, re.M))
    flags -= {"config", "id", "control", "control-token-file", "log-dir", "log-level", "protocol"}
    for key in flags | {"protocols"}:
        assert re.search(rf"^#?{key} = ", text, re.M), key
    server = serve(config=re.sub(r"^#?port = .*$", "port = 0", text, flags=re.M))
    assert server.status("chat")["state"] == "running"


def test_the_unit(tmp_path):
    analyze = tool("systemd-analyze")
    unit = tmp_path / "wsgw.service"
    text = (ROOT / "examples/wsgw.service").read_text()
    command = re.search(r"^ExecStart=(.*)$", text, re.M)[1]
    # What it starts parses: usage errors would be exit 2 before anything else.
    args = command.split()[1:]
    args[args.index("--config") + 1] = "/no/such/file.toml"
    assert run_cli(tmp_path, *args).returncode != 0
    assert "unexpected argument" not in run_cli(tmp_path, *args).stderr
    unit.write_text(re.sub(r"/usr/local/bin/wsgw", WSGW, text))
    done = subprocess.run([analyze, "verify", unit], capture_output=True, text=True, timeout=60)
    complaints = [line for line in done.stderr.splitlines() if "wsgw.service" in line
                  and "man" not in line]
    assert not complaints, complaints
    for key in ("KillMode=mixed", "StateDirectory=wsgw", "ExecReload=", "NoNewPrivileges=yes"):
        assert key in text


def proxied(server, port):
    """A client through the proxy: messages both ways, the address, a close code."""
    url = f"ws://127.0.0.1:{port}/room?x=1"

    def up():
        try:
            return ws_client(url)
        except (OSError, InvalidStatus):
            return None

    client = wait_until(up, "the proxy")
    client.send("through")
    assert client.recv() == "through"
    client.send(b"\x00" * 100_000)
    assert client.recv() == b"\x00" * 100_000
    (opened,) = server.record.events("onClientOpen")[-1:]
    assert (opened["path"], opened["query"]) == ("/room", "x=1")
    assert opened["remote"] == "127.0.0.1" or opened["remote"].startswith("127.0.0.1:")
    assert "x-forwarded-for" in opened["headers"]
    client.close(4002, "bye")
    closed = server.record.wait("onClientClose")[-1]
    assert closed["code"] in (4002, 1006)


def free_port():
    import socket
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_nginx(scripted, tmp_path):
    nginx = tool("nginx")
    server = scripted("--trusted-proxies", "127.0.0.1")
    port = free_port()
    snippet = (ROOT / "examples/nginx.conf").read_text()
    snippet = snippet.replace("listen 8080", f"listen 127.0.0.1:{port}")
    snippet = snippet.replace("127.0.0.1:10125", f"127.0.0.1:{server.port()}")
    temp = "".join(f"{kind}_temp_path {tmp_path}/{kind};\n"
                   for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    config = tmp_path / "nginx.conf"
    config.write_text(f"daemon off;\nmaster_process off;\npid {tmp_path}/pid;\n"
                      f"error_log {tmp_path}/error.log;\nevents {{}}\n"
                      f"http {{\naccess_log off;\n{temp}{snippet}\n}}\n")
    checked = subprocess.run([nginx, "-t", "-c", config], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stderr
    with subprocess.Popen([nginx, "-c", config], stderr=subprocess.DEVNULL) as proxy:
        try:
            proxied(server, port)
        finally:
            proxy.terminate()


def test_caddy(scripted, tmp_path):
    caddy = tool("caddy")
    server = scripted("--trusted-proxies", "127.0.0.1")
    port = free_port()
    text = (ROOT / "examples/Caddyfile").read_text()
    text = text.replace("chat.example.org", f"http://127.0.0.1:{port}")
    text = text.replace("127.0.0.1:10125", f"127.0.0.1:{server.port()}")
    config = tmp_path / "Caddyfile"
    config.write_text("{\n\tadmin off\n}\n" + text)
    env = {**private_env(tmp_path), "XDG_DATA_HOME": str(tmp_path / "data")}
    log = open(tmp_path / "caddy.log", "w")
    with subprocess.Popen([caddy, "run", "--config", config, "--adapter", "caddyfile"], env=env,
                          stderr=log, stdout=log) as proxy:
        try:
            begun = time.monotonic()
            wait_until(lambda: proxy.poll() is not None or "serving initial configuration" in
                       (tmp_path / "caddy.log").read_text(), "Caddy")
            assert proxy.poll() is None, (tmp_path / "caddy.log").read_text()
            assert time.monotonic() - begun < 15
            proxied(server, port)
        finally:
            proxy.terminate()
            log.close()


def test_the_licences_are_there():
    assert "MIT OR Apache-2.0" in (ROOT / "LICENSE").read_text()
    assert "TERMS AND CONDITIONS" in (ROOT / "LICENSE-APACHE").read_text()
    assert "Permission is hereby granted" in (ROOT / "LICENSE-MIT").read_text()


def test_the_changelog_knows_this_version():
    version = re.search(r'^version = "(.*)"', (ROOT / "Cargo.toml").read_text(), re.M)[1]
    assert f"## [{version}]" in (ROOT / "CHANGELOG.md").read_text()
