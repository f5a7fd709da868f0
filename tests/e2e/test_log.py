"""`WebSocket.log`: its files, its levels, and what is written to it."""

import datetime
import os
import pty
import re
import resource
import subprocess

import pytest

from harness import WSGW, private_env, wait_until


def days(directory):
    return sorted(p.name for p in directory.glob("WebSocket.????-??-??.log"))


def test_a_restart_on_the_same_day_removes_nothing(serve, tmp_path):
    logs = tmp_path / "logs"
    logs.mkdir()
    for day in range(1, 20):
        (logs / f"WebSocket.2020-01-{day:02}.log").write_text(f"{day}\n")
    (logs / "WebSocketServer.log").write_text("another program's")
    for _ in range(3):
        server = serve("--log-dir", logs, log_dir=False)
        server.stop()
        kept = days(logs)
        assert len(kept) == 14
        assert kept[0] == "WebSocket.2020-01-07.log"
    assert (logs / "WebSocketServer.log").read_text() == "another program's"


def test_the_link_leads_to_todays_file(serve, tmp_path):
    server = serve()
    link = server.log_dir / "WebSocket.log"
    today = datetime.datetime.now(datetime.timezone.utc).date().isoformat()
    assert link.is_symlink()
    assert link.resolve().name == f"WebSocket.{today}.log"
    # The directory may be moved, or mounted elsewhere.
    assert "/" not in os.readlink(link)
    server.stop()
    moved = tmp_path / "moved"
    server.log_dir.rename(moved)
    assert "gateway stopped" in (moved / "WebSocket.log").read_text()


def test_a_file_in_the_links_place_is_kept(serve, tmp_path):
    logs = tmp_path / "logs"
    logs.mkdir()
    (logs / "WebSocket.log").write_text("mine\n")
    server = serve("--log-dir", logs, log_dir=False)
    server.stop()
    assert (logs / "WebSocket.log").is_symlink()
    assert [p.read_text() for p in logs.glob("WebSocket.log.*.old")] == ["mine\n"]


def test_which_level_counts(serve):
    """--log-level, then RUST_LOG, then the file."""
    config = "[log]\nlevel = 'error'\n[gateways.a]\nport = 0\n"
    server = serve(config=config)
    assert " INFO " not in server.log()
    server = serve(config=config, env={"RUST_LOG": "info"})
    server.await_log(" INFO ")
    server = serve("--log-level", "error", config=config, env={"RUST_LOG": "info"})
    assert " INFO " not in server.log()
    server = serve(env={"RUST_LOG": ""})
    server.await_log(" INFO ")
    server = serve(env={"RUST_LOG": "wsgw=loudest"})
    server.await_log('WARN RUST_LOG is ignored: invalid log level "wsgw=loudest"')
    server.connect()


def test_a_wrong_level_in_the_file_names_its_line(serve):
    server = serve(config="[gateways.a]\nport = 0\n[log]\nlevel = 'loud'\n", wait=False)
    assert server.wait() == 1
    assert "wsgw.toml:4: log.level" in server.err()


def test_no_line_is_lost_at_the_end(scripted):
    """A flood up to the last moment: what was said last is there."""
    server = scripted("--log-level", "debug", "--hooks", "onClientOpen,onMessage")
    clients = [server.connect() for _ in range(50)]
    for client in clients:
        client.send("x")
    server.await_metric("wsgw_messages_received_total", 50)
    server.signal()
    assert server.wait() == 0
    log = server.log()
    assert len(re.findall(r" k\w+ closed", log)) == 50
    assert "gateway stopped" in log.splitlines()[-1]
    # The same on stderr.
    assert "gateway stopped" in server.err().splitlines()[-1]


def test_what_a_full_disk_cost_is_counted_and_said(serve):
    """A limit on the size of files stands for the disk."""
    server = serve("-q", wrap=("sh", "-c", 'trap "" XFSZ; exec "$@"', "sh"))
    path = (server.log_dir / "WebSocket.log").resolve()
    server.connect()
    server.await_log("k1 opened")
    size = path.stat().st_size
    resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
    for _ in range(3):
        client = server.connect()
        client.send("x")
        assert client.recv() == "x"
    # Nothing of it holds a gateway up.
    wait_until(lambda: server.status()["connections"] == 4, "four clients")
    resource.prlimit(server.pid, resource.RLIMIT_FSIZE,
                     (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    server.connect()
    server.await_log("k5 opened")
    log = server.log()
    # One that the log's thread came to late is there.
    lost = [int(n) for n in re.findall(r"WARN (\d+) lines of the log were lost", log)]
    assert lost and sum(lost) + len(re.findall(r" k[234] opened", log)) == 3, log
    assert all(re.match(r"\d{4}-\d\d-\d\dT\S+Z ", line) for line in log.splitlines())


def test_control_characters_are_written_out(scripted):
    evil = "a\x1b[31mb\rc\x07d\x9be\u2028f\u202eg"
    server = scripted("--log-level", "trace")
    client = server.connect()
    client.send(evil)
    assert client.recv() == evil
    server.await_log("a.x1b")
    for text in (server.log(), server.err()):
        assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u202e]", text)


def test_what_the_listener_says_is_marked(serve):
    code = ("import sys; print('oops \\x1b[2J\\x9b', file=sys.stderr, flush=True); "
            "sys.stdin.read()")
    server = serve(listener=["python3", "-c", code])
    (line,) = server.await_log(r".*oops.*")
    assert re.search(r" INFO default listener: oops \\x1b\[2J\\x9b$", line)
    assert "\x1b" not in server.err()


def shown_on_a_terminal(directory, term):
    """What a `serve` that starts and stops shows on a terminal with this TERM (None: unset)."""
    main, side = pty.openpty()
    env = {**private_env(directory), "TERM": term}
    env = {name: value for name, value in env.items() if value is not None}
    command = [WSGW, "serve", "--port", "0", "--control", "off"]
    with subprocess.Popen(command, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=side) as proc:
        proc.stdout.readline()
        proc.terminate()
        assert proc.wait(20) == 0
    os.close(side)
    shown = b""
    try:
        while data := os.read(main, 65536):
            shown += data
    except OSError:
        # The other side is closed.
        pass
    os.close(main)
    return shown


def test_a_colour_only_on_a_terminal(tmp_path):
    assert b"\x1b[32m INFO\x1b[0m" in shown_on_a_terminal(tmp_path, "xterm")
    log = (tmp_path / "state/wsgw/logs/WebSocket.log").read_text()
    assert "\x1b" not in log and "gateway stopped" in log


@pytest.mark.parametrize("term", ["dumb", "", None])
def test_no_colour_on_a_terminal_without_abilities(tmp_path, term):
    shown = shown_on_a_terminal(tmp_path, term)
    assert b"gateway stopped" in shown and b"\x1b" not in shown


def test_the_log(scripted):
    server = scripted("--log-level", "info")
    a, name = server.named("/p")
    a.send("a secret body")
    assert a.recv() == "a secret body"
    a.close()
    server.record.wait("onClientClose")
    server.stop()
    log = server.log()
    assert re.search(rf"INFO default {name} opened", log)
    assert re.search(rf"INFO default {name} .*closed", log)
    assert "secret body" not in log and "secret body" not in server.err()
    daily = list(server.log_dir.glob("WebSocket.*.log"))
    assert len(daily) == 1
    # The end is in it: no line is lost.
    assert "stopped" in log.splitlines()[-1]


def test_trace_shows_bodies(scripted):
    server = scripted("--log-level", "trace")
    a = server.connect()
    a.send("a secret \x1b[31m body\n2026-01-01T00:00:00Z ERROR forged")
    a.recv()
    server.await_log("a secret .*forged")
    assert "\x1b[31m body" not in server.log()
    for line in server.log().splitlines():
        assert re.match(r"\d{4}-\d\d-\d\dT[\d:.]+Z +(ERROR|WARN|INFO|DEBUG|TRACE) ", line), line
        assert "ERROR forged" not in line[:60]


def test_rust_log(scripted):
    server = scripted(env={"RUST_LOG": "error"})
    server.connect()
    server.stop()
    assert "INFO" not in server.log() and "INFO" not in server.err()


def test_quiet(serve):
    server = serve("-q", listener=["cat"])
    server.connect()
    server.stop()
    assert server.err() == ""
    assert "INFO" in server.log()


def test_the_default_log_directory(serve):
    server = serve(log_dir=False)
    link = server.state / "logs" / "WebSocket.log"
    wait_until(link.exists, "the log")
    server.stop()
    assert "running" in link.read_text()


def test_a_path_cannot_forge_a_log_line(serve):
    server = serve("--log-level", "debug")
    link = server.raw()
    link.request("/%0a2026-11-24T00:00:00Z%20INFO%20forged\x1b[31m\x85", {"User-Agent": "\x1b[1m"})
    link.response()
    a = server.connect("/x")
    a.close(4000, "bye\n2026 INFO forged \x1b[31m")
    server.await_log(r"k\d+ .*closed")
    server.stop()
    for text in (server.log(), server.err()):
        assert "\x1b[31m" not in text and "\x85" not in text
        assert not any(line.startswith("2026 INFO forged") for line in text.splitlines())


def test_a_given_log_directory_that_cannot_be_written(serve, tmp_path):
    blocker = tmp_path / "file"
    blocker.write_text("")
    server = serve("--log-dir", blocker / "log", log_dir=False, wait=False)
    assert server.wait() == 1
    assert str(blocker) in server.err()


def test_a_default_log_directory_that_cannot_be_written_is_a_warning(serve, tmp_path):
    directory = tmp_path / "s"
    state = directory / "state/wsgw"
    state.mkdir(parents=True)
    (state / "logs").write_text("in the way")
    server = serve(log_dir=False, name="s")
    server.connect()
    wait_until(lambda: "logs" in server.err() and "--log-dir" in server.err(), server.err)


def test_fourteen_days_are_kept(serve, tmp_path):
    logs = tmp_path / "s/log"
    logs.mkdir(parents=True)
    for day in range(1, 21):
        (logs / f"WebSocket.2020-01-{day:02}.log").write_text("old\n")
        os.utime(logs / f"WebSocket.2020-01-{day:02}.log", (day * 86400, day * 86400))
    server = serve(name="s")
    server.connect()
    server.stop()
    kept = sorted(p.name for p in logs.glob("WebSocket.*-*.log"))
    assert len(kept) == 14
    assert "WebSocket.2020-01-20.log" in kept and "WebSocket.2020-01-01.log" not in kept
