"""Names in README and docs are those of the program; the chat, the unit and Caddy's example work."""

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

PAGES = [ROOT / "README.md", ROOT / "SECURITY.md", *sorted((ROOT / "docs").glob("*.md"))]


def tool(name):
    """A program that tests/run.sh installs; its absence is a failure, not a pass."""
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin")
    assert found, f"{name} is missing: tests/run.sh installs it"
    return found


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
    assert re.search(rf"^## \[?{re.escape(version)}\b", (ROOT / "CHANGELOG.md").read_text(), re.M)
