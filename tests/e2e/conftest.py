"""Fixtures of the end-to-end tests."""

import resource
import signal
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import harness  # noqa: E402

# Some tests hold thousands of sockets.
_, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (_hard, _hard))

# Under nohup SIGHUP is ignored, and children inherit that.
signal.signal(signal.SIGHUP, signal.SIG_DFL)


def pytest_collection_modifyitems(items):
    """Spreads the tests that take long: side by side, they end together with the others."""
    long = [item for item in items if item.get_closest_marker("long")]
    if not long:
        return
    rest = [item for item in items if item not in long]
    step = len(items) / len(long)
    for n, item in enumerate(long):
        rest.insert(int(n * step), item)
    items[:] = rest


@pytest.fixture
def serve(tmp_path):
    """Starts `wsgw serve`; each is stopped at the end of the test, and must leave nothing."""
    running = []

    def start(*args, name=None, kind=harness.Serve, **options):
        directory = tmp_path / (name or f"serve{len(running)}")
        server = kind(directory, *args, **options)
        running.append(server)
        return server

    yield start
    try:
        for server in running:
            # These would not answer its Close, which takes a second.
            server.close_raw()
            server.stop()
    finally:
        for server in running:
            server.kill()


@pytest.fixture
def nats(tmp_path):
    """A NATS server."""
    server = harness.NatsServer(tmp_path / "nats")
    yield server
    server.kill()


@pytest.fixture
def nodes(nats, serve):
    """No nodes yet; `many` and `add` start some."""
    return harness.Nodes(serve, nats)


@pytest.fixture
def wire(nats):
    """A wire to the NATS server that can be harmed."""
    one = harness.Wire(nats.port)
    yield one
    one.close()


@pytest.fixture
def scripted(serve, tmp_path):
    """Starts `wsgw serve` with the fake listener; `script` are the listener's own arguments."""

    def start(*args, script=(), **options):
        name = options.pop("name", "scripted")
        record = tmp_path / name / "record"
        listener = [*harness.FAKE, "--record", record, *script]
        server = serve(*args, listener=listener, name=name, **options)
        if options.get("wait", True):
            server.record.wait_pids(1)
        return server

    return start


@pytest.fixture
def terminal(tmp_path):
    """Starts a program at a pseudo-terminal, `wsgw connect` if no other command is given."""
    running = []

    def start(*args, **options):
        running.append(harness.Terminal(tmp_path, *args, **options))
        return running[-1]

    yield start
    for one in running:
        one.kill()


@pytest.fixture
def connect(tmp_path):
    """Runs `wsgw connect` to its end."""
    return lambda *args, **options: harness.run_connect(tmp_path, *args, **options)
