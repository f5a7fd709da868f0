"""Lines of the listener that are too long, and its stderr."""

import json
import re

from harness import rss_kib


def test_a_line_over_max_line_is_discarded_to_its_newline(scripted):
    server = scripted("--max-line", "200KiB", "--max-message", "16KiB")
    a = server.connect()
    before = rss_kib(server.pid)
    a.send("!big 50000000")
    assert a.recv() == "!big 50000000"
    assert rss_kib(server.pid) - before < 20_000
    server.await_metric("wsgw_listener_faults_total", 1, kind="over_long")
    server.await_log(r"max-line")


def test_max_line_has_a_least_value(serve):
    server = serve("--max-message", "1MiB", "--max-line", "1MiB", wait=False)
    assert server.wait() != 0
    assert "max-line" in server.err()


def test_stderr_goes_to_the_log(scripted):
    server = scripted()
    a = server.connect()
    a.send('!stderr "hello \\u001b[31m from the listener"')
    assert a.recv().startswith("!stderr")
    server.await_log(r"INFO default .*listener.*hello")
    assert "\x1b[31m from" not in server.log() and "\x1b[31m from" not in server.err()


def test_a_long_line_on_stderr_is_cut(scripted):
    server = scripted()
    a = server.connect()
    a.send("!stderr " + json.dumps("A" * 20_000 + "END"))
    assert a.recv().startswith("!stderr")
    server.await_log(r"A{8000}")
    assert "A" * 8193 not in server.log()
    assert "AEND" not in server.log()


def test_a_flood_on_stderr_is_cut_and_counted(scripted):
    server = scripted()
    a = server.connect()
    a.send("!flood 50000")
    assert a.recv().startswith("!flood")
    server.stop()
    shown = len(re.findall(r"flood \d+", server.log()))
    hidden = sum(map(int, re.findall(r"(\d+) more lines", server.log())))
    assert shown < 25_000
    assert shown + hidden == 50_000


def test_stderr_is_drained_though_nobody_reads_a_line(scripted):
    """Five megabytes without a newline neither block the listener nor stay in memory, though its
    stdin is full meanwhile."""
    server = scripted("--window", "1000", script=["--stderr-flood"])
    a = server.connect()
    for n in range(200):
        a.send(f"{n}" + "z" * 2000)
    assert a.recv_many(200) == [f"{n}" + "z" * 2000 for n in range(200)]
    assert rss_kib(server.pid) < 100_000


def test_a_listener_in_a_shell(serve):
    server = serve("--listener", "cat | cat")
    a = server.connect()
    a.send("x")
    assert a.recv() == "x"


def test_json_over_several_lines_is_told_of_jq_c(serve):
    """As `jq` writes it without `-c`."""
    code = ("import json, sys\n"
            "for line in iter(sys.stdin.readline, ''):\n"
            "    print(json.dumps({'id': json.loads(line)['id']}, indent=2), flush=True)\n")
    server = serve("--drain", "0s", "--hooks", "onMessage",
                   listener=["python3", "-uc", code])
    server.connect().send("x")
    (line, *_) = server.await_log(r".*a line that is skipped.*")
    assert "(jq -c)" in line and "stderr" not in line
