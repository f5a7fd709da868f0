"""Listeners that each have one thing wrong with them, for `wsgw check`: `bad_listeners.py KIND`."""

import json
import os
import signal
import subprocess
import sys
import time


def events():
    """The events, one after the other, until stdin ends."""
    for line in iter(sys.stdin.readline, ""):
        yield json.loads(line)


def messages():
    return (event for event in events() if event["event"] == "onMessage")


def say(**answer):
    print(json.dumps(answer), flush=True)


def echo(before=lambda event: None):
    for event in messages():
        before(event)
        say(id=event["id"])


def block_buffered():
    out = os.fdopen(1, "w", buffering=8192)
    for event in messages():
        out.write(json.dumps({"id": event["id"]}) + "\n")


def stray_prints():
    echo(lambda event: print("got a message", flush=True))


def startup_banner():
    print("Chat listener 1.0 ready", flush=True)
    echo()


def several_lines():
    for event in messages():
        print(json.dumps({"id": event["id"], "message": "x"}, indent=2), flush=True)


def several_objects():
    for event in messages():
        print(json.dumps({"id": event["id"]}) + json.dumps({"command": "send", "message": "x"}), flush=True)


def python_dictionary():
    for event in messages():
        print({"id": event["id"], "message": "hello"}, flush=True)


def wrong_ids():
    for event in messages():
        say(id=event["id"] + 100_000)


def ids_as_strings():
    for event in messages():
        say(id=str(event["id"]))


def no_ids():
    for event in messages():
        say(message=event["message"])


def strings_for_lists():
    for event in messages():
        say(id=event["id"], connections=event["conn"])


def unknown_recipient():
    for event in messages():
        say(id=event["id"], connections=["alice"])


def twice():
    for event in messages():
        say(id=event["id"], message="one")
        say(id=event["id"], message="two")


def wrong_command():
    for event in messages():
        say(command="broadcast", message="x")
        say(id=event["id"])


def slow():
    echo(lambda event: time.sleep(1.2))


def late():
    echo(lambda event: time.sleep(0.8 if event["message"].startswith("Hello") else 0))


def forgets():
    for n, event in enumerate(messages()):
        if n % 10 != 9:
            say(id=event["id"])


def answers_nothing():
    for event in messages():
        pass


def does_not_read():
    signal.pause()


def ignores_eof():
    echo()
    while True:
        time.sleep(1)


def ignores_everything():
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    ignores_eof()


def leaves_a_child():
    subprocess.Popen(["sleep", "60"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                     stderr=subprocess.DEVNULL)
    echo()


def child_of_its_own_session():
    child = subprocess.Popen(["sleep", "60"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                             stderr=subprocess.DEVNULL, start_new_session=True)
    with open(os.environ["CHILDREN"], "a") as note:
        print(child.pid, file=note)
    echo()


def dies_on_unicode():
    echo(lambda event: event["message"].encode("ascii"))


def damages_unicode():
    for event in messages():
        say(id=event["id"], message=event["message"].encode("utf-8").decode("latin-1"))


def dies_on_empty():
    echo(lambda event: "base64" in event or event["message"][0])


def dies_on_binary():
    echo(lambda event: "base64" not in event or json.loads(event["message"]))


def dies_on_push():
    echo(lambda event: event["conn"].upper())


def dies_on_close():
    for event in events():
        if event["event"] == "onClientClose":
            sys.exit("no such user")
        say(id=event["id"])


def one_event_and_out():
    event = json.loads(sys.stdin.readline())
    say(id=event["id"])


def closes_stdout():
    for event in messages():
        say(id=event["id"])
        os.close(1)
        signal.pause()


def wrong_handshake():
    for event in events():
        say(id=event["id"], **({"reject": "no"} if event["event"] == "onHandshake" else {}))


def refuses():
    for event in events():
        no = event["event"] == "onHandshake" and "token" not in event["query"]
        say(id=event["id"], **({"reject": 401, "reason": "no token"} if no else {}))


def reads_chunks():
    while chunk := os.read(0, 65536):
        event = json.loads(chunk)
        if event["event"] == "onMessage":
            say(id=event["id"])


def prompts():
    for event in messages():
        print("> ", end="")
        say(id=event["id"])


def greets():
    for event in events():
        say(id=event["id"], message="welcome" if event["event"] == "onClientOpen" else event["message"])


def chooses_nobody():
    for event in messages():
        say(id=event["id"], connections=[])


def closes_stdin():
    os.close(0)
    time.sleep(1000)


def byte_order_mark():
    print("\ufeff", end="")
    echo()


def unknown_key():
    for event in messages():
        say(id=event["id"], reply=event["message"].upper())


def forgets_and_is_long():
    for n, event in enumerate(messages()):
        if n % 10 != 5:
            say(id=event["id"], message="x" * 2000)


def single_quotes_and_long():
    for event in messages():
        print({"id": event["id"], "message": "x" * 2000}, flush=True)


def dies_on_empty_and_is_long():
    for event in messages():
        say(id=event["id"], message=event["message"][0] * 2000)


def slow_first_answer():
    first = iter([2])
    echo(lambda event: time.sleep(next(first, 0)))


if __name__ == "__main__":
    globals()[sys.argv[1]]()
