"""The log's files while others move, remove or replace them, and while the clock is wrong."""

import datetime
import os
import resource
import shutil
import signal
import subprocess

import pytest

from harness import wait_until

QUIET = ("-q",)


def current(server):
    """Today's file, by its own name."""
    today = datetime.datetime.now(datetime.timezone.utc).date().isoformat()
    return server.log_dir / f"WebSocket.{today}.log"


def await_line(server, line):
    """A line, in the file that WebSocket.log leads to."""
    wait_until(lambda: (server.log_dir / "WebSocket.log").exists() and line in server.log(), line)


def replaced(path, old):
    return lambda: path.exists() and path.stat().st_ino != old


@pytest.mark.parametrize("how", ["move", "remove", "move the directory", "remove the directory"])
def test_a_log_that_has_gone_is_made_anew_without_being_asked(serve, tmp_path, how):
    server = serve(*QUIET)
    file = current(server)
    server.connect()
    server.await_log("k1 opened")
    old = file.stat().st_ino
    # It keeps the old file's number from being used again.
    os.link(file, tmp_path / "kept")
    if how == "move":
        file.rename(tmp_path / "moved")
    elif how == "remove":
        file.unlink()
    elif how == "move the directory":
        server.log_dir.rename(tmp_path / "moved")
    else:
        shutil.rmtree(server.log_dir)
    wait_until(replaced(file, old), "a new file", timeout=5)
    server.connect()
    await_line(server, "k2 opened")
    assert "k2 opened" not in (tmp_path / "kept").read_text()
    assert "ERROR" not in server.err()


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGUSR1])
def test_a_signal_reopens_the_log(serve, tmp_path, number):
    """As scripts that rotate logs do it."""
    server = serve(*QUIET)
    file = current(server)
    server.await_log("gateway running")
    old = file.stat().st_ino
    file.rename(tmp_path / "moved")
    server.signal(number)
    wait_until(replaced(file, old), "a new file", timeout=5)
    server.connect()
    await_line(server, "k1 opened")
    assert server.proc.poll() is None


def test_a_log_that_is_truncated_goes_on_at_its_start(serve):
    server = serve(*QUIET)
    server.await_log("gateway running")
    os.truncate(current(server), 0)
    server.connect()
    await_line(server, "k1 opened")
    assert "\0" not in server.log()


def directory(path):
    path.mkdir()


@pytest.mark.parametrize("put", [directory, os.mkfifo, lambda path: path.symlink_to("/dev/full")],
                         ids=["directory", "fifo", "full"])
def test_what_takes_the_logs_place_is_said_on_stderr_and_its_cost_counted(serve, put):
    server = serve(*QUIET)
    file = current(server)
    server.await_log("gateway running")
    file.unlink()
    put(file)
    # It is said even under -q, once for each reason.
    wait_until(lambda: "the log cannot be made anew" in server.err(), server.err, timeout=5)
    client = server.connect()
    client.send("x")
    assert client.recv() == "x"
    said = server.err()
    assert said.count("\n") == 1 and file.name in said
    if file.is_dir() and not file.is_symlink():
        file.rmdir()
    else:
        file.unlink()
    wait_until(lambda: file.is_file(), "a new file", timeout=5)
    server.connect()
    await_line(server, "k2 opened")
    assert "WARN 1 lines of the log were lost" in server.log()


def test_a_full_disk_is_said_on_stderr_once(serve):
    server = serve(*QUIET, wrap=("sh", "-c", 'trap "" XFSZ; exec "$@"', "sh"))
    server.await_log("gateway running")
    size = current(server).stat().st_size
    resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
    server.connect()
    wait_until(lambda: "the log cannot be written" in server.err(), server.err)
    server.connect()
    server.await_connections(2)
    assert server.err().count("the log cannot be written") == 1, server.err()


CLOCK = r"""
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
/* The real time and as many seconds as the file at WRONG says. */
int clock_gettime(clockid_t clock, struct timespec *time) {
    int result = syscall(SYS_clock_gettime, clock, time);
    if (clock == CLOCK_REALTIME) {
        FILE *file = fopen(getenv("WRONG"), "r");
        long long wrong = 0;
        if (file) { if (fscanf(file, "%lld", &wrong) != 1) wrong = 0; fclose(file); }
        time->tv_sec += wrong;
    }
    return result;
}
"""


@pytest.mark.skipif(shutil.which("cc") is None, reason="it compiles a wrong clock")
def test_the_log_follows_a_clock_that_was_wrong_for_a_moment(serve, tmp_path):
    source, clock, wrong = tmp_path / "clock.c", tmp_path / "clock.so", tmp_path / "wrong"
    source.write_text(CLOCK)
    subprocess.run(["cc", "-shared", "-fPIC", "-o", clock, source], check=True)
    logs = tmp_path / "serve0" / "log"
    logs.mkdir(parents=True)
    today = datetime.datetime.now(datetime.timezone.utc).date()
    days = [today - datetime.timedelta(days=n) for n in range(1, 14)]
    for day in days:
        (logs / f"WebSocket.{day}.log").write_text(f"{day}\n")
    server = serve(*QUIET, env={"LD_PRELOAD": str(clock), "WRONG": str(wrong)})
    server.await_log("gateway running")
    for jump in (40 * 365 * 86400, -40 * 365 * 86400):
        wrong.with_suffix(".new").write_text(str(jump))
        wrong.with_suffix(".new").rename(wrong)
        before = len(server.links)
        server.connect()
        server.await_log(f"k{before + 1} opened")
        assert not current(server).samefile(logs / "WebSocket.log")
        wrong.unlink()
        server.connect()
        await_line(server, f"k{before + 2} opened")
        assert current(server).samefile(logs / "WebSocket.log")
    text = current(server).read_text()
    assert "k2 opened" in text and "k4 opened" in text
    assert "k1 opened" not in text and "k3 opened" not in text
    kept = [day for day in days if (logs / f"WebSocket.{day}.log").exists()]
    assert kept == days[:len(kept)] and len(kept) >= 11


def test_what_a_client_sends_is_cut_in_the_log(serve):
    server = serve("--log-level", "debug", "--allow-origin", "https://right.example")
    long = "y" * 7000
    raw = server.raw()
    raw.upgrade(f"/{long}?{long}", {"Origin": "https://right.example"})
    (line,) = server.await_log(r".*k1 opened.*")
    assert "(cut at 1 KiB)" in line and len(line) < 1300
    refused = server.raw().request(f"/{long}", {"Origin": f"https://{long}.example"})
    assert refused.response()[0] == 403
    server.await_log("refused")
    assert max(map(len, server.log().splitlines())) < 9500
