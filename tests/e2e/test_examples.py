"""Everything under examples/, and every command that the documents show."""

import json
import os
import pathlib
import re
import shutil
import socket
import subprocess
import time

import pytest
from websockets.sync.client import connect

from conftest import BINARY, ROOT, environment, wait_for

EXAMPLES = ROOT / "examples"


@pytest.mark.parametrize("command", [
    ["python3", str(EXAMPLES / "upper.py")],
    ["node", str(EXAMPLES / "upper.js")],
    ["bash", str(EXAMPLES / "upper.sh")],
    ["jq", "-c", "--unbuffered", ".message |= ascii_upcase"],
    ["sed", "-u", "s/hello/HELLO/"],
])
def test_listeners(serve, command):
    s = serve("--", *command)
    with connect(s.url()) as a, connect(s.url()) as b:
        a.send("hello")
        assert a.recv(10) == b.recv(10) == "HELLO"
        b.send("hello")
        assert a.recv(10) == b.recv(10) == "HELLO"


def test_the_producer(serve):
    s = serve("--hooks", "none", "--", "bash", str(EXAMPLES / "vmstat.sh"))
    with connect(s.url()) as ws:
        # The head line, then numbers.
        assert any(re.search(r"\d", ws.recv(10)) for _ in range(3))


def test_the_chat_keeps_its_rooms(serve):
    s = serve("--", "python3", str(EXAMPLES / "chat/chat.py"))
    with connect(s.url("/a?nick=ann")) as ann, connect(s.url("/a?nick=bob")) as bob, connect(s.url("/b?nick=eve")) as eve:
        assert json.loads(eve.recv(20)) == {"info": "eve came", "here": ["eve"]}
        bob.send("hi")
        while "text" not in (got := json.loads(ann.recv(20))):
            pass
        assert got == {"from": "bob", "text": "hi"}
        assert s.run("send", "to all").stdout == "delivered 3\n"
        assert json.loads(eve.recv(20)) == {"info": "to all"}


def test_the_crontab_lines(serve, tmp_path):
    """Each command as cron runs it: an empty environment but for HOME and PATH, stdin empty."""
    s = serve(home=tmp_path)
    lines = [line for line in (EXAMPLES / "crontab").read_text().splitlines() if line and line[0] in "0123456789*"]
    assert lines
    env = {"HOME": str(tmp_path), "PATH": f"{os.path.dirname(BINARY)}:/usr/bin:/bin", "XDG_STATE_HOME": str(tmp_path / "state")}
    with connect(s.url()) as ws:
        for line in lines:
            command = line.split(None, 5)[5].replace("/usr/local/bin/backup", "true")
            done = subprocess.run(["sh", "-c", command], env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True)
            assert (done.returncode, done.stdout, done.stderr) == (0, "", ""), line
            assert ws.recv(20)


def test_cron_without_xdg_finds_the_default_place(tmp_path):
    """HOME alone, as cron has it, for both sides."""
    env = {"HOME": str(tmp_path), "PATH": "/usr/bin:/bin"}
    process = subprocess.Popen([BINARY, "serve", "--port", "0", "--control", "127.0.0.1:0", "-q"], env=env, stdout=subprocess.PIPE,
                               stdin=subprocess.DEVNULL, text=True)
    while not process.stdout.readline().startswith("control"):
        pass
    try:
        done = subprocess.run([BINARY, "send", "hi"], env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True)
        assert (done.returncode, done.stdout) == (0, "delivered 0\n"), done.stderr
        assert list((tmp_path / ".local/state/wsgw").glob("control-*.json"))
    finally:
        process.terminate()
        process.wait(10)


def test_the_config_file_with_all_keys(serve, tmp_path):
    """As it stands, and with every default uncommented, it is the same."""
    text = (EXAMPLES / "wsgw.toml").read_text()
    lines = []
    example = False
    for line in text.splitlines():
        # A comment is a "#" and a blank; one that ends in "Example." speaks of the keys below it.
        if re.match(r"# ", line):
            example = "xample" in line
        if line.startswith("#") and not line.startswith("# ") and line != "#" and not example:
            line = line[1:]
        lines.append(line)
    listing = "\n".join(lines)
    listing = re.sub(r'^group = .*$', "", listing, flags=re.M)
    listing = listing.replace("port = 10125", "port = 0").replace("127.0.0.1:10124", "127.0.0.1:0")
    (tmp_path / "all.toml").write_text(listing)
    s = serve("--config", str(tmp_path / "all.toml"), port=None)
    assert s.status("chat")["state"] == "running"
    for key in ("window", "listener-timeout", "max-queue", "route"):
        assert re.search(rf"^{key} = ", listing, re.M), key


def test_nginx_in_front(serve, tmp_path):
    s = serve("--trusted-proxies", "127.0.0.1", "--", "cat")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = (EXAMPLES / "nginx.conf").read_text().replace("listen 8080", f"listen 127.0.0.1:{port}") \
        .replace("127.0.0.1:10125", f"127.0.0.1:{s.port()}")
    (tmp_path / "nginx.conf").write_text(
        f"pid {tmp_path}/pid;\ndaemon off;\nerror_log {tmp_path}/error.log;\nevents {{}}\nhttp {{\naccess_log off;\n"
        f"client_body_temp_path {tmp_path}/b;\nproxy_temp_path {tmp_path}/p;\nfastcgi_temp_path {tmp_path}/f;\n"
        f"uwsgi_temp_path {tmp_path}/u;\nscgi_temp_path {tmp_path}/s;\n{server}\n}}\n")
    assert shutil.which("nginx"), "nginx is needed"
    nginx = subprocess.Popen(["nginx", "-p", str(tmp_path), "-c", str(tmp_path / "nginx.conf")], stderr=subprocess.DEVNULL)
    try:
        def up():
            assert nginx.poll() is None, (tmp_path / "error.log").read_text()
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", port)) == 0
        wait_for(up)
        # From another address than the proxy's.
        with connect(f"ws://127.0.0.1:{port}/x", source_address=("127.0.0.2", 0)) as ws:
            ws.send("through nginx")
            assert ws.recv(20) == "through nginx"
            [row] = s.request("GET", "/v1/gateways/default/connections")[1]
            assert row["remote"] == "127.0.0.2" and row["path"] == "/x"
    finally:
        nginx.terminate()
        nginx.wait(10)


def test_the_unit_file():
    """systemd's own check where it is there; the keys that matter in any case."""
    text = (EXAMPLES / "wsgw.service").read_text()
    for key in ("StateDirectory=wsgw", "KillMode=mixed", "ExecReload=", "TimeoutStopSec=15"):
        assert key in text
    keys = {line.split("=")[0] for line in text.splitlines() if "=" in line and line[0].isupper()}
    assert keys <= {"Description", "After", "Type", "ExecStart", "ExecReload", "User", "StateDirectory", "StateDirectoryMode",
                    "LogsDirectory", "KillMode", "TimeoutStopSec", "Restart", "LimitNOFILE", "NoNewPrivileges",
                    "ProtectSystem", "ProtectHome", "PrivateTmp", "WantedBy"}
    command = re.search(r"ExecStart=(.*)", text)[1].split()[2:]
    done = subprocess.run([BINARY, "serve", "--help"], capture_output=True, text=True)
    for flag in (word for word in command if word.startswith("--")):
        assert flag in done.stdout


DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda d: d.name)
def test_documents(document, tmp_path):
    """Links lead somewhere; flags and commands exist; nothing but the product is spoken of."""
    text = document.read_text()
    for link in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", text):
        if "://" not in link:
            assert (document.parent / link).exists(), link
    helps = {}
    for command in ("serve", "send", "connect", "status", "start", "stop", "restart", "reload", "connections", "close", "completions"):
        helps[command] = subprocess.run([BINARY, command, "--help"], capture_output=True, text=True).stdout
    for line in re.findall(r"wsgw (?:serve|send|connect|status|start|stop|restart|reload|connections|close|completions)\b[^\n`]*", text):
        command = line.split()[1]
        own = line.split(" -- ")[0].split(" | ")[0]
        for flag in re.findall(r"(?<=\s)--[a-z][a-z-]*", own):
            assert flag in helps[command], line
    for block in re.findall(r"```toml\n(.*?)```", text, re.S):
        (tmp_path / "c.toml").write_text(re.sub(r"port = \d+", "port = 0", block))
        done = subprocess.run([BINARY, "serve", "--config", "c.toml", "--control", "nowhere"], cwd=tmp_path, capture_output=True,
                              text=True, env=environment(tmp_path))
        # The file is read before the flag is found wrong.
        assert "--control" in done.stderr, done.stderr


def blocks(document, kind):
    return re.findall(rf"```{kind}\n(.*?)```", document.read_text(), re.S)


def test_the_readmes_listeners(serve, tmp_path):
    """Each listener as it stands in the README."""
    text = (ROOT / "README.md").read_text()
    for kind, name, program in [("python", "shout.py", "python3"), ("js", "shout.js", "node"), ("bash", "shout.sh", "bash")]:
        [source] = re.findall(rf"```{kind}\n(.*?)```", text, re.S)
        (tmp_path / name).write_text(source)
        home = tmp_path / kind
        home.mkdir()
        s = serve("--", program, str(tmp_path / name), home=home)
        with connect(s.url()) as ws:
            ws.send("hello")
            assert ws.recv(10) == "HELLO", kind
        s.stop()


def test_the_table_of_limits():
    """docs/operations.md has every limit with the default that the program has."""
    done = subprocess.run([BINARY, "serve", "--help"], capture_output=True, text=True).stdout
    flat = re.sub(r"\s+", " ", done)
    table = dict(re.findall(r"^\| `([a-z-]+)` \| ([^|]+?) \|", (ROOT / "docs/operations.md").read_text(), re.M))
    assert len(table) > 20
    for key, default in table.items():
        found = re.search(rf"--{'protocol' if key == 'protocols' else key} <[^>]+> (.*?)(?= --[a-z]|$)", flat)
        assert found, key
        shown = re.search(r"\[default: ([^\]]+)\]", found[1])
        assert (shown[1] if shown else "none") == default, (key, found[1])


def test_completions_are_those_of_the_program():
    for shell, file in [("bash", "wsgw.bash"), ("zsh", "_wsgw"), ("fish", "wsgw.fish"), ("powershell", "_wsgw.ps1"), ("elvish", "wsgw.elv")]:
        done = subprocess.run([BINARY, "completions", shell], capture_output=True, text=True)
        committed = (ROOT / "shell-completions" / file).read_text()
        assert done.stdout == committed, f"regenerate: wsgw completions {shell} > shell-completions/{file}"


def test_completions_load_in_real_shells(tmp_path):
    env = dict(environment(tmp_path), PATH=f"{os.path.dirname(BINARY)}:{os.environ['PATH']}", TERM="dumb")

    def run(*command):
        return subprocess.run(command, capture_output=True, text=True, env=env, timeout=30)
    directory = ROOT / "shell-completions"
    done = run("bash", "-c", f"source {directory}/wsgw.bash; COMP_WORDS=(wsgw se); COMP_CWORD=1; _wsgw wsgw se wsgw; echo ${{COMPREPLY[@]}}")
    assert done.stdout.split() == ["serve", "send"], done
    done = run("bash", "-c", f"source {directory}/wsgw.bash; COMP_WORDS=(wsgw send --no); COMP_CWORD=2; _wsgw wsgw --no send; echo ${{COMPREPLY[@]}}")
    assert done.stdout.split() == ["--no-hook"], done
    done = run("zsh", "-fc", f"fpath=({directory} $fpath); autoload -Uz compinit; compinit -u -d {tmp_path}/dump; "
                             "echo ${_comps[wsgw]}; autoload +X _wsgw && whence -w _wsgw")
    assert done.stdout.split()[0] == "_wsgw" and "function" in done.stdout, done
    done = run("fish", "--no-config", "-c", f"source {directory}/wsgw.fish; complete -C 'wsgw se'")
    assert {line.split("\t")[0] for line in done.stdout.splitlines()} == {"serve", "send"}, done
