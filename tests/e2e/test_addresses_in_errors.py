"""An IPv6 address in a message stands in brackets, so that its port can be told from it."""

import contextlib
import socket

import pytest

import harness


def can_bind(address):
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET6) as probe:
        probe.bind((address, 0))
        return True
    return False


needs_ipv6 = pytest.mark.skipif(not can_bind("::1"), reason="this machine has no IPv6")


@pytest.fixture
def taken():
    with socket.socket(socket.AF_INET6) as acceptor:
        acceptor.bind(("::1", 0))
        acceptor.listen()
        yield acceptor.getsockname()[1]


@needs_ipv6
def test_a_taken_port_of_a_gateway(serve, taken):
    server = serve("--host", "::1", "--port", taken, port=False, wait=False)
    assert server.wait() == 1
    assert f"port {taken} on [::1] is taken (gateway default)" in server.err()


@needs_ipv6
def test_a_taken_control_port(serve, taken):
    server = serve("--control", f"[::1]:{taken}", control=False, wait=False)
    assert server.wait() == 1
    assert f"control port [::1]:{taken} is taken" in server.err()


def test_an_address_that_the_machine_has_not(serve):
    server = serve("--host", "2001:db8::7", wait=False)
    assert server.wait() == 1
    assert "[2001:db8::7] is not an address of this machine (gateway default)" in server.err()


@needs_ipv6
def test_a_control_port_that_cannot_be_reached(tmp_path):
    with socket.socket(socket.AF_INET6) as closed:
        closed.bind(("::1", 0))
        port = closed.getsockname()[1]
        for url in (f"http://[::1]:{port}", f"[::1]:{port}", f"http://[0:0::1]:{port}"):
            done = harness.run_cli(tmp_path, "status", "--control", url)
            assert done.returncode == 3
            assert f"cannot reach the control port http://[::1]:{port}: " in done.stderr
