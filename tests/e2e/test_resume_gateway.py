"""`wsgw connect --resume` and a gateway: nothing is missed, nothing comes twice, gaps are said."""

import signal
import subprocess

import pytest

from harness import PATIENCE, WSGW, private_env


@pytest.mark.parametrize(("missed", "out", "code"), [
    (3, ["m0", "m1", "m2", "m3"], 0),
    # More than are kept; what comes later is printed.
    (5, ["m0", "later"], 5),
])
def test_a_client_goes_on_where_it_was(serve, tmp_path, missed, out, code):
    server = serve("--history", "3")
    with subprocess.Popen([WSGW, "connect", "--resume", "-n", str(len(out)), server.url()],
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True,
                          stderr=subprocess.PIPE, env=private_env(tmp_path)) as client:
        (row,) = server.await_connections(1)
        server.push(message="m0")
        assert client.stdout.readline() == "m0\n"
        # While it stands still its connection is closed, and others get messages.
        client.send_signal(signal.SIGSTOP)
        server.cli("close", "default", row["conn"], "--code", "4001")
        server.await_connections(0)
        for n in range(missed):
            server.push(message=f"m{n + 1}")
        client.send_signal(signal.SIGCONT)
        assert "trying again" in client.stderr.readline()
        if code:
            assert "could not be recovered" in client.stderr.readline()
            server.push(message="later")
        got, err = client.communicate(timeout=PATIENCE)
    assert (client.returncode, ["m0", *got.splitlines()]) == (code, out), err


def test_without_a_history_it_says_so(serve, tmp_path):
    server = serve()
    with subprocess.Popen([WSGW, "connect", "--resume", "-n", "1", server.url()], text=True,
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, env=private_env(tmp_path)) as client:
        server.await_connections(1)
        server.push(message="x")
        got, err = client.communicate(timeout=PATIENCE)
    assert (client.returncode, got) == (0, "x\n") and "keeps no history" in err, err
