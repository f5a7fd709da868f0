"""Clients that were held back while the servers of a cluster were away are let in in turn."""

import contextlib
import threading

from harness import await_nodes, encode_frame, wait_until

SIZE = 20_000


def test_clients_that_were_held_back_get_in_in_turn(nodes, nats):
    node = nodes.add(gateway='on-engine-loss = "hold"')
    await_nodes(node, 1)
    speakers = [node.raw().upgrade() for _ in range(3)]
    ended = threading.Event()
    got = [0] * len(speakers)

    def speak(n):
        frame = encode_frame(1, bytes([n]) + b"x" * (SIZE - 1))
        with contextlib.suppress(OSError):
            while not ended.is_set():
                speakers[n].write(frame)

    def read(n):
        # Each frame from the gateway has four bytes in front.
        left, size = b"", SIZE + 4
        with contextlib.suppress(OSError):
            while more := speakers[n].sock.recv(1 << 20):
                left += more
                while n == 0 and len(left) >= size:
                    got[left[4]] += 1
                    left = left[size:]
                if n:
                    left = b""

    nats.pause()
    wait_until(lambda: "degraded" in node.http("GET", "/healthz")[2], "the loss")
    for n, speaker in enumerate(speakers):
        speaker.sock.settimeout(None)
        for act in speak, read:
            threading.Thread(target=act, args=[n], daemon=True).start()
    try:
        wait_until(lambda: node.metric("wsgw_messages_received_total") > 200, "messages that wait")
        nats.go_on()
        wait_until(lambda: sum(got) > 2_000, lambda: f"messages: {got}")
        assert min(got) * 4 > max(got), got
    finally:
        nats.go_on()
        ended.set()
        node.close_raw()
