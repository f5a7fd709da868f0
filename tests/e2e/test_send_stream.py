"""`wsgw send --lines` to clients that are slower than the input, but go on reading."""

import hashlib
import subprocess
import time

import pytest

import harness


def take(client, bytes_per_second, pause, until):
    """Reads at a rate, with pauses of so many seconds, until the message `until` has come; gives the
    hash of what came before it."""
    begun, got, messages = time.monotonic(), 0, hashlib.sha256()
    while True:
        fin, opcode, payload = client.read_frame()
        assert fin and opcode == 1, (opcode, payload[:100])
        if payload == until:
            return messages.hexdigest()
        messages.update(payload)
        got += len(payload)
        ahead = got / bytes_per_second - (time.monotonic() - begun)
        if ahead > pause:
            time.sleep(ahead)


@pytest.mark.parametrize(
    ("rate", "pause", "lines", "size", "options"),
    [(2_600_000, 0.5, 200_000, 80, []),
     (2_600_000, 0.02, 12, 1_000_000, []),
     (700_000, 0.02, 9, 1_400_000, ["--max-queue", "3MiB"])],
    ids=["in-bursts", "huge-lines", "slow"])
def test_a_client_that_goes_on_reading_gets_every_line(serve, rate, pause, lines, size, options):
    server = serve("--max-message", "2MiB", *options)
    client = harness.Raw(server.port(), receive_buffer=200_000).upgrade()
    server.await_connections(1)
    texts = [b"%0*d" % (size, n) for n in range(lines)]
    want = hashlib.sha256(b"".join(texts)).hexdigest()
    source = server.dir / "input"
    source.write_bytes(b"\n".join(texts) + b"\nend\n")
    env = {**server.env, "WSGW_CONTROL": server.control_url, "WSGW_TOKEN": server.token}
    with source.open("rb") as stdin:
        # Time-outs that are shorter than the whole: only a stream without progress is given up.
        command = [harness.WSGW, "send", "--lines", "--timeout", "5"]
        with subprocess.Popen(command, stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              env=env, text=True) as sender:
            got = take(client, rate, pause, b"end")
            out, err = sender.communicate(timeout=60)
    assert (sender.returncode, out, err) == (0, f"delivered {lines + 1}\n", "")
    assert got == want
