"""A listener that cannot be started, or that goes at once."""


import pytest

from harness import wait_until


def failing(serve, *listener, **options):
    server = serve("--restart-delay-max", "100ms", listener=listener, wait=False, **options)
    assert server.wait() == 1
    return server.err()


def test_no_such_program(serve):
    err = failing(serve, "/no/such/program")
    assert "/no/such/program" in err and "default" in err and "there is no program" in err


def test_not_executable(serve, tmp_path):
    script = tmp_path / "plain.txt"
    script.write_text("cat")
    err = failing(serve, str(script))
    assert "plain.txt" in err and "chmod +x" in err


def test_it_exits_at_once(serve):
    err = failing(serve, "sh", "-c", "echo the reason is this >&2; exit 3")
    assert "the reason is this" in err
    assert "3" in err


def test_it_exits_at_once_after_the_gateway_ran(serve):
    """Two incarnations that live less than a second, without output: it stops with 1011."""
    server = serve("--restart-delay-max", "100ms",
                   listener=["sh", "-c", "sleep 0.6; echo no database >&2; exit 7"])
    server.await_status(state="running")
    a = server.connect()
    assert a.await_close()[0] == 1011
    now = server.await_status(state="failed")
    assert "no database" in now["error"] and "exit status: 7" in now["error"]
    assert now["address"] is None
    assert server.cli("send", "x").returncode == 4
    assert now["listener"] == "none" or now["listener_pid"] is None
    assert server.http("GET", "/healthz")[0] == 503
    shown = server.cli("status", "default")
    assert "failed" in shown.stdout and "no database" in shown.stdout
    assert server.proc.poll() is None
    with pytest.raises(OSError):
        server.raw()


def test_one_early_exit_is_forgiven(scripted):
    server = scripted(script=["--exit-first", "1"])
    a = server.connect()
    a.send("x")
    assert a.recv() == "x"
    server.await_status(state="running", restarts=1)


def test_one_that_wrote_a_line_is_restarted_for_ever(serve):
    server = serve("--restart-delay-max", "100ms", listener=[
        "sh", "-c", 'echo \'{"event":"onResult"}\'; exit 1'])
    wait_until(lambda: server.status()["restarts"] >= 5, "five restarts")
    assert server.status()["state"] == "running"
