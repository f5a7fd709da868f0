"""Everything under examples/ works as it stands there."""

import json
import os
import re
import signal
import subprocess

import pytest

from harness import (
    ROOT,
    WSGW,
    caddy,
    free_port,
    nginx,
    private_env,
    run_cli,
    tool,
    wait_until,
    ws_client,
)

EXAMPLES = ROOT / "examples"


@pytest.mark.parametrize("command", [
    ["python3", EXAMPLES / "upper.py"],
    ["node", EXAMPLES / "upper.js"],
    ["bash", EXAMPLES / "upper.sh"],
    ["jq", "-c", "--unbuffered", ".message |= ascii_upcase"],
    ["sed", "-u", "s/hello/HELLO/"],
], ids=lambda command: command[0])
def test_listeners(serve, command):
    tool(command[0])
    server = serve(listener=command)
    a, b = server.connect(), server.connect()
    server.await_connections(2)
    for sender in (a, b):
        sender.send("hello")
        assert a.recv() == b.recv() == "HELLO"


def test_the_producer(serve):
    tool("vmstat")
    server = serve("--hooks", "none", listener=["bash", EXAMPLES / "vmstat.sh"])
    client = server.connect()
    # The head line, then numbers.
    assert any(re.search(r"\d", client.recv()) for _ in range(3))


# The chat.


def chat(serve):
    return serve("--restart-delay-max", "200ms",
                 listener=["python3", ROOT / "examples/chat/chat.py"])


def enter(server, room, nick):
    """A client that the room knows: clients are not always announced in the order of their 101s."""
    client = server.connect(f"/{room}?nick={nick}")
    while f"{nick} came" not in client.recv():
        pass
    return client


def said(client):
    """The next thing that somebody said; who came and went aside."""
    while True:
        found = json.loads(client.recv())
        if "text" in found:
            return found["from"], found["text"]


def wait_info(client, text):
    """The next word about the room; nobody may be said to come meanwhile."""
    while True:
        found = json.loads(client.recv())
        if "info" in found:
            if text in found["info"]:
                return found
            assert "came" not in found["info"]


def test_chat(serve):
    server = chat(serve)
    ann, bob = enter(server, "lobby", "ann"), enter(server, "lobby", "bob")
    eve = server.connect("/other?nick=eve")
    while "bob came" not in ann.recv():
        pass
    assert json.loads(eve.recv()) == {"info": "eve came", "here": ["eve"]}
    ann.send("hi")
    assert said(ann) == said(bob) == ("ann", "hi")
    ann.send("/nick annie")
    ann.send("me again")
    assert said(bob) == ("annie", "me again")
    eve.send("alone here")
    assert said(eve) == ("eve", "alone here")
    # One from outside goes to every room.
    assert server.cli("send", "from outside").stdout == "delivered 3\n"
    for client in (ann, bob, eve):
        assert wait_info(client, "from outside")["info"] == "from outside"
    assert server.metric("wsgw_listener_faults_total") == 0


def test_chat_goes_on_after_its_death(serve):
    server = chat(serve)
    ann, bob = enter(server, "lobby", "ann"), enter(server, "lobby", "bob")
    while "bob came" not in ann.recv():
        pass
    old = server.status()["listener_pid"]
    os.kill(old, signal.SIGKILL)
    wait_until(lambda: server.status()["listener_pid"] not in (None, old), "the new listener")
    ann.send("still there?")
    assert said(bob) == ("ann", "still there?")
    # Nobody is said to have come once more.
    bob.close()
    assert "bob left" in wait_info(ann, "left")["info"]
    server.await_status(restarts=1)


def test_chat_survives_a_message_of_somebody_who_left():
    """A message whose sender's close was told comes again alone, after a restart."""
    lines = ['{"id":7,"event":"onMessage","conn":"k1","message":"x","redelivered":true}',
             '{"id":8,"event":"onClientClose","conn":"k1","message":"","code":1006,"reason":"",'
             '"clean":false}']
    done = subprocess.run(["python3", ROOT / "examples/chat/chat.py"], text=True,
                          input="\n".join(lines) + "\n", capture_output=True, timeout=20)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[0])["id"] == 7


# Cron, the config file.


def test_the_crontab_lines(serve):
    """Each command as cron runs it: an empty environment but for HOME and PATH, stdin empty."""
    server = serve()
    lines = [line for line in (EXAMPLES / "crontab").read_text().splitlines()
             if line and line[0] in "0123456789*"]
    assert lines
    env = {"HOME": server.env["HOME"], "XDG_STATE_HOME": server.env["XDG_STATE_HOME"],
           "PATH": f"{os.path.dirname(WSGW)}:/usr/bin:/bin"}
    client = server.connect()
    server.await_connections(1)
    for line in lines:
        command = line.split(None, 5)[5].replace("/usr/local/bin/backup", "true")
        done = subprocess.run(["sh", "-c", command], env=env, stdin=subprocess.DEVNULL,
                              capture_output=True, text=True)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", ""), line
        assert client.recv()


def test_cron_without_xdg_finds_the_default_place(serve, tmp_path):
    """HOME alone, as cron has it, for both sides."""
    bare = {name: None for name in private_env(tmp_path)} | {
        "HOME": str(tmp_path), "PATH": "/usr/bin:/bin"}
    server = serve("-q", env=bare, wait=False)
    server.state = tmp_path / ".local/state/wsgw"
    server.await_control()
    done = subprocess.run([WSGW, "send", "hi"], env=server.env, stdin=subprocess.DEVNULL,
                          capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "delivered 0\n"), done.stderr
    assert list(server.state.glob("control-*.json"))


def test_the_config_file_with_all_keys(serve):
    """As it stands, and with every default uncommented, it is the same."""
    lines = []
    example = False
    for line in (EXAMPLES / "wsgw.toml").read_text().splitlines():
        # A comment is a "#" and a blank; one that ends in "Example." speaks of the keys below it.
        if re.match(r"# ", line):
            example = "xample" in line
        if line.startswith("#") and not line.startswith("# ") and line != "#" and not example:
            line = line[1:]
        lines.append(line)
    listing = re.sub(r"^group = .*$", "", "\n".join(lines), flags=re.M)
    listing = listing.replace("port = 10125", "port = 0").replace("127.0.0.1:10124", "127.0.0.1:0")
    for key in ("window", "listener-timeout", "max-queue", "route"):
        assert re.search(rf"^{key} = ", listing, re.M), key
    assert serve(config=listing).status("chat")["state"] == "running"


# Proxies.


def proxied(server, port):
    """A client through the proxy: messages both ways, the address, a close code."""
    client = ws_client(f"ws://127.0.0.1:{port}/room?x=1")
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


def test_caddy(scripted, tmp_path):
    server = scripted("--trusted-proxies", "127.0.0.1")
    port = free_port()
    text = (EXAMPLES / "Caddyfile").read_text()
    text = text.replace("chat.example.org {", f"http://127.0.0.1:{port} {{")
    text = text.replace("127.0.0.1:10125", f"127.0.0.1:{server.port()}")
    with caddy(tmp_path, text, port):
        proxied(server, port)


def test_nginx(scripted, tmp_path):
    server = scripted("--trusted-proxies", "127.0.0.1")
    port = free_port()
    site = (EXAMPLES / "nginx.conf").read_text().replace("listen 8080", f"listen 127.0.0.1:{port}")
    site = site.replace("127.0.0.1:10125", f"127.0.0.1:{server.port()}")
    with nginx(tmp_path, site, port):
        proxied(server, port)
        # From another address than the proxy's.
        client = ws_client(f"ws://127.0.0.1:{port}/x", source_address=("127.0.0.2", 0))
        client.send("through")
        assert client.recv() == "through"
        (row,) = server.await_connections(1)
        assert (row["remote"], row["path"]) == ("127.0.0.2", "/x")
        client.close()
