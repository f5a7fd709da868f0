"""What a listener wrote last, before it exited."""

import sys
import threading

from harness import wait_until

# Writes until nobody takes anything for a while, says how much that was, and exits.
PRODUCER = """
import json, os, select, sys, time
go = sys.argv[1]
while not os.path.exists(go):
    time.sleep(0.01)
# The next incarnation waits for good.
os.rename(go, go + ".used")
os.set_blocking(1, False)
number = 0
while True:
    line = json.dumps({"command": "send", "message": f"{number:07}" + "x" * 1000}) + "\\n"
    try:
        # Short enough to be written whole or not at all.
        os.write(1, line.encode())
        number += 1
    except BlockingIOError:
        if not select.select([], [1], [], 0.08)[1]:
            break
with open(go + ".new", "w") as file:
    file.write(str(number))
os.rename(go + ".new", go + ".written")
"""


def test_a_slow_client_costs_nobody_the_last_output_of_a_producer_that_exited(serve, tmp_path):
    """Reading pauses for slow recipients; what is left in the pipe is read all the same."""
    go, written = tmp_path / "go", tmp_path / "go.written"
    server = serve("--hooks", "none", "--max-queue", "16KiB", "--producer-wait", "60s",
                   listener=[sys.executable, "-c", PRODUCER, go])
    slow = server.raw(receive_buffer=4096).upgrade()
    fast = server.connect()
    server.await_connections(2)
    hurry, done = threading.Event(), threading.Event()

    def read_slowly():
        slow.sock.settimeout(0.1)
        while not done.is_set():
            try:
                if not slow.sock.recv(1 << 20 if hurry.is_set() else 4096):
                    return
            except TimeoutError:
                continue
            hurry.wait(0.1)

    reader = threading.Thread(target=read_slowly)
    reader.start()
    go.touch()
    try:
        wait_until(written.exists, "the end of the producer")
        # Longer than the pipe of a listener that exited is read where nothing holds that up.
        threading.Timer(2, hurry.set).start()
        count = int(written.read_text())
        got = [int(fast.recv()[:7]) for _ in range(count)]
    finally:
        hurry.set()
        done.set()
        reader.join()
    assert got == list(range(count))
    assert server.metric("wsgw_slow_consumers_total") == 0
