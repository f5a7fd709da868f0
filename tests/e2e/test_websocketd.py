"""Programs from websocketd: what docs/websocketd.md shows beyond its commands, and examples/each.py.

test_printed_commands.py runs the commands themselves.
"""

import re
import subprocess
import sys

from harness import ROOT, tool, wait_until

EACH = ROOT / "examples/each.py"


def each(serve, *program, args=()):
    return serve(*args, listener=[sys.executable, EACH, *program])


def test_each_connection_has_a_program_of_its_own(serve):
    server = each(serve, "bash", "-c", 'while read -r line; do echo "$((++n)): $line"; done')
    a, b = server.connect(), server.connect()
    for n in range(1, 4):
        a.send("x")
        assert a.recv() == f"{n}: x"
    b.send("two\nlines")
    assert b.recv() == "1: two lines"
    # A push goes to all, past the programs.
    assert server.cli("send", "to all").stdout == "delivered 2\n"
    assert a.recv() == b.recv() == "to all"
    assert server.metric("wsgw_listener_faults_total") == 0


def test_the_request_is_in_the_environment(serve):
    server = each(serve, "sh", "-c", 'echo "$PATH_INFO $QUERY_STRING $REMOTE_ADDR $HTTP_USER_AGENT"; cat')
    client = server.connect("/a/b?c=d", user_agent_header="tester")
    assert client.recv() == "/a/b c=d 127.0.0.1 tester"


def test_the_connection_ends_with_its_program_and_the_program_with_its_connection(serve, tmp_path):
    server = each(serve, "bash", "-c", f'trap "echo >>{tmp_path}/ended; exit" TERM; '
                  'while read -r line; do [ "$line" = stop ] && exit; echo "$line"; done')
    a, b = server.connect(), server.connect()
    a.send("stop")
    assert a.await_close() == (1000, "the program has ended")
    b.send("still here")
    assert b.recv() == "still here"
    b.close()
    wait_until((tmp_path / "ended").exists, "the end of the program")


def test_a_program_that_does_not_read_loses_its_client_alone(serve):
    server = each(serve, "sh", "-c", 'test "$PATH_INFO" = /deaf && exec sleep 1000; cat')
    deaf, other = server.connect("/deaf"), server.connect("/")
    for _ in range(400):
        deaf.send("x" * 1_000)
    assert deaf.await_close()[0] == 4008
    other.send("hi")
    assert other.recv() == "hi"


def test_programs_are_started_anew_after_a_restart(serve):
    server = each(serve, "bash", "-c", 'while read -r line; do echo "$((++n)): $line"; done')
    client = server.connect()
    client.send("x")
    assert client.recv() == "1: x"
    assert server.cli("restart", "default", "--listener").returncode == 0
    client.send("x")
    assert client.recv() == "1: x"


def test_state_that_is_kept_by_connection(serve, tmp_path):
    (source,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs/websocketd.md").read_text(), re.S)
    script = tmp_path / "counts.py"
    script.write_text(source)
    server = serve("--route", "sender", listener=[sys.executable, script])
    a, b = server.connect(), server.connect()
    for n in "123":
        a.send("x")
        assert a.recv() == n
    b.send("x")
    assert b.recv() == "1"


def test_lines_reach_clients_without_websocket(serve):
    tool("curl")
    server = serve("--plain", "--streams", listener=["cat"])
    # -N: curl writes what comes at once.
    curl = subprocess.Popen(["curl", "-sN", server.url("/?stream=raw").replace("ws:", "http:")],
                            stdout=subprocess.PIPE, text=True)
    try:
        client = server.connect()
        server.await_connections(2)
        client.send("hello, curl")
        assert client.recv() == "hello, curl"
        assert next(line for line in curl.stdout if line != "\n") == "hello, curl\n"
    finally:
        curl.kill()
        curl.communicate()
