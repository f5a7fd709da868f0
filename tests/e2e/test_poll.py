"""Polls: what came since a position, at once or as soon as there is something."""

import json
import os
import random
import resource
import select
import threading
import time

import pytest
from harness import wait_until
from harness.posts import Http, Lines, http

ROOMS = ("--streams", "--channels", "query", "--allow-channels", "*", "--history", "1000")


def waiting(server, count):
    wait_until(lambda: server.metric("wsgw_polls_waiting") == count,
               lambda: f"{count} polls wait, not {server.metric('wsgw_polls_waiting')}")


def begin(server, since, query="", headers=()):
    """A poll that is under way."""
    asks = http(server)
    asks.write(asks.bytes_of("GET", f"/?stream=poll&since={since}{query}", headers))
    return asks


def result(asks):
    status, headers, body = asks.response()
    frames = [json.loads(line) for line in body.splitlines()] if status == 200 else body
    return status, headers.get("x-wsgw-at"), frames


def behind(at, n=0):
    epoch, _, number = at.partition("-")
    return f"{epoch}-{int(number) + n}"


def test_a_poll_begins_with_a_hello_and_goes_on_from_its_position(serve):
    server = serve(*ROOMS)
    asks = http(server)
    status, at, frames = asks.poll(query="&channel=b&channel=a")
    assert status == 200 and at.endswith("-0")
    assert frames == [{"hello": 1, "at": at, "channels": ["a", "b"]}]
    server.push(message="to all")
    server.push(message="one", channel="a")
    server.push(message="other", channel="c")
    status, now, frames = asks.poll(at, query="&channel=b&channel=a")
    assert (status, now) == (200, behind(at, 3))
    assert frames == [{"message": "to all", "at": behind(at, 1)},
                      {"message": "one", "channel": "a", "at": behind(at, 2)}]
    # In the middle, and other forms of since.
    assert asks.poll(behind(at, 1), query="&channel=a")[2] == frames[1:]
    assert asks.poll("last", query="&channel=a")[2] == frames
    assert asks.poll("5m")[2] == frames[:1]
    # No connection, and no presence.
    assert server.connections() == [] and server.metric("wsgw_connections_accepted_total") == 0
    assert server.metric("wsgw_polls_total", status="200") == 5
    assert server.metric("wsgw_deliveries_total") == 2 + 1 + 2 + 1
    status, headers, body = asks.ask("GET", f"/?stream=poll&since={at}")
    assert headers["cache-control"] == "no-cache, no-transform"
    assert (headers["x-accel-buffering"], headers["content-type"]) == (
        "no", "application/x-ndjson")
    assert "connection" not in headers


def test_what_the_config_sends_comes_behind_the_hello(serve):
    server = serve(config="""
[gateways.default]
port = 0
streams = true
[gateways.default.history]
broadcast = 10
since = "2"
""")
    for n in range(3):
        server.push(message=f"{n}")
    status, at, frames = http(server).poll()
    assert status == 200 and at == behind(frames[0]["at"], 2)
    assert [frame.get("message") for frame in frames] == [None, "1", "2"]
    assert http(server).poll(frames[0]["at"])[2] == frames[1:]


def test_a_poll_waits_for_what_is_for_it(serve):
    server = serve(*ROOMS)
    at = http(server).poll()[1]
    a, b, both, none = (begin(server, at, query) for query in
                        ("&channel=a", "&channel=b", "&channel=a&channel=b", ""))
    waiting(server, 4)
    server.push(message="private", connections=[])
    server.push(message="c", channel="c")
    server.push(message="a", channel=["c", "a"])
    frame = {"message": "a", "channel": "a", "at": behind(at, 2)}
    assert result(a) == result(both) == (200, behind(at, 2), [frame])
    waiting(server, 2)
    server.push(message="to all")
    frame = {"message": "to all", "at": behind(at, 3)}
    assert result(b) == result(none) == (200, behind(at, 3), [frame])
    waiting(server, 0)


def test_what_a_client_sends_wakes_polls(serve):
    server = serve("--streams", "--history", "5", "--route", "others")
    at = http(server).poll()[1]
    stream = Lines(server)
    poll = begin(server, at)
    waiting(server, 1)
    assert http(server).post(stream.token, "a\nb", "application/x-ndjson")[0] == 204
    status, now, frames = result(poll)
    while frames[-1]["message"] != "b":
        status, now, more = http(server).poll(now)
        frames += more
    assert [frame["message"] for frame in frames] == ["a", "b"]


@pytest.mark.long
def test_nothing_for_25_seconds_is_a_204_with_a_position(serve):
    server = serve(*ROOMS)
    at = http(server).poll()[1]
    start = time.monotonic()
    poll = begin(server, at, "&channel=a")
    waiting(server, 1)
    server.push(message="elsewhere", channel="b")
    poll.sock.settimeout(40)
    assert result(poll) == (204, behind(at, 1), "")
    assert 24.5 < time.monotonic() - start < 27
    assert poll.poll()[0] == 200, "the connection is kept"
    waiting(server, 0)


def test_what_cannot_be_recovered_is_a_410(serve):
    server = serve("--streams", "--history", "2")
    at = http(server).poll()[1]
    for n in range(4):
        server.push(message=f"{n}")
    asks = http(server)
    status, _, text = asks.poll(behind(at, 1))
    assert status == 410 and "Ask without since, or with since=last." in text
    assert len(asks.poll(behind(at, 2))[2]) == 2
    assert asks.poll(behind(at, 5))[0] == 410
    assert asks.poll("aaaaaaaa-3")[0] == 410
    assert asks.poll(behind(at, 10 ** 30))[0] == 410
    assert server.metric("wsgw_polls_total", status="410") == 4


def test_who_may_not_poll(serve):
    server = serve(*ROOMS[:-2], "--allow-channels", "a*", "--history", "5", "--path", "/")
    for path, headers, status in [
        ("/?stream=poll&since=x", {}, 400),
        ("/?stream=poll&since=1&since=2", {}, 400),
        ("/?stream=poll&channel=", {}, 400),
        ("/other?stream=poll", {}, 404),
        ("/?stream=poll", {"Origin": "https://evil.example"}, 403),
        ("/?stream=poll", {"Sec-Fetch-Site": "cross-site"}, 403),
        ("/?stream=poll", {"Referer": "https://evil.example/page"}, 403),
        ("/?stream=poll", {"Accept": "image/webp,*/*"}, 403),
        ("/?stream=poll", {"Sec-Fetch-Site": "same-origin"}, 200),
    ]:
        assert http(server).ask("GET", path, headers)[0] == status, (path, headers)
    status, headers, _ = http(server).ask("GET", "/?stream=poll", {"Origin": "http://localhost"})
    assert status == 200 and headers["access-control-allow-origin"] == "http://localhost"
    assert headers["access-control-expose-headers"] == "X-Wsgw-At"
    link = http(server)
    link.write(link.bytes_of("HEAD", "/?stream=poll"))
    assert b"200 OK" in link.sock.recv(1000)


def test_channels_that_are_not_allowed(serve):
    server = serve("--streams", "--channels", "query", "--allow-channels", "a*", "--history", "5")
    assert http(server).poll(query="&channel=ab")[0] == 200
    status, _, text = http(server).poll(query="&channel=b")
    assert status == 403 and "allow-channels" in text


def test_without_a_history_or_with_a_hook_there_is_none(serve, scripted):
    status, _, text = http(serve("--streams")).poll()
    assert status == 404 and text.startswith("no_history")
    server = scripted("--streams", "--history", "5", "--hooks", "onHandshake,onMessage")
    status, _, text = http(server).poll()
    assert status == 403 and "onHandshake" in text and "Use a stream" in text
    status, _, page = http(serve("--history", "5")).ask("GET", "/?stream=poll")
    assert status == 200 and page.startswith("<!doctype html>")


def test_polls_that_wait_count_as_connections(serve):
    server = serve("--streams", "--history", "5", "--max-connections", "2")
    at = http(server).poll()[1]
    first, second = begin(server, at), begin(server, at)
    waiting(server, 2)
    assert http(server).poll(at)[0] == 503
    # What need not wait is answered.
    assert http(server).poll()[0] == 200
    assert server.raw().request().response()[0] == 503
    assert server.connections() == [] and server.metric("wsgw_connections_open") == 0
    first.reset()
    waiting(server, 1)
    stream = Lines(server)
    assert http(server).poll(at)[0] == 503
    assert http(server).post(stream.token, "x")[0] == 204
    assert result(second)[0] == 200
    assert result(begin(server, at))[0] == 200
    Lines(server)


def test_polls_count_against_the_limit_of_their_address(serve):
    server = serve("--streams", "--history", "5", "--max-connections-per-ip", "2")
    at = http(server).poll()[1]
    polls = [begin(server, at), begin(server, at)]
    waiting(server, 2)
    assert http(server).poll(at)[0] == 429
    server.push(message="x")
    assert [result(poll)[0] for poll in polls] == [200, 200]
    server.connect(), server.connect()


def test_a_stop_ends_polls(serve):
    server = serve("--streams", "--history", "5")
    at = http(server).poll()[1]
    polls = [begin(server, at) for _ in range(5)]
    waiting(server, 5)
    server.signal()
    for poll in polls:
        status, headers, _ = poll.response()
        assert (status, headers["connection"]) == (503, "close") and poll.at_eof()
    assert server.wait() == 0


def test_a_reload_without_a_history_ends_polls(serve):
    config = "[gateways.default]\nport = 0\nstreams = true\n"
    server = serve(config=config + "history = { broadcast = 5 }\n")
    at = http(server).poll()[1]
    poll = begin(server, at)
    waiting(server, 1)
    server.reload(config)
    assert result(poll)[0] == 404
    assert http(server).poll()[0] == 404
    # A new history is another epoch.
    server.reload(config + "history = { broadcast = 5 }\n")
    assert http(server).poll(at)[0] == 410


def test_a_client_that_leaves_is_forgotten(serve):
    server = serve(*ROOMS)
    at = http(server).poll()[1]
    polls = [begin(server, at, f"&channel=c{n % 3}") for n in range(60)]
    waiting(server, 60)
    for poll in polls[::2]:
        poll.close()
    for poll in polls[1::4]:
        poll.reset()
    waiting(server, 15)
    server.push(message="x", channel=["c0", "c1", "c2"])
    assert [result(poll)[0] for poll in polls[3::4]] == [200] * 15
    waiting(server, 0)


def test_polls_one_behind_the_other_on_one_connection(serve):
    server = serve("--streams", "--history", "50")
    asks = http(server)
    at = asks.poll()[1]
    for n in range(3):
        server.push(message=f"{n}")
    # The third has to wait, and the fourth waits behind it.
    asks.write(b"".join(asks.bytes_of("GET", f"/?stream=poll&since={behind(at, n)}")
                        for n in (0, 2, 3, 0)))
    assert len(result(asks)[2]) == 3 and len(result(asks)[2]) == 1
    waiting(server, 1)
    server.push(message="3")
    assert len(result(asks)[2]) == 1 and len(result(asks)[2]) == 4
    # HTTP/1.0 closes.
    asks.write(asks.bytes_of("GET", f"/?stream=poll&since={at}", version="1.0"))
    assert result(asks)[0] == 200 and asks.at_eof()


def test_a_long_history_comes_in_parts(serve):
    server = serve("--streams", "--history", "5000", "--max-queue", "100000")
    asks = http(server)
    at = asks.poll()[1]
    bodies = [f"{n} {chr(1) * (n % 500)}" for n in range(400)] + ["x" * 90_000, "last"]
    for body in bodies:
        server.push(message=body)
    got, parts = [], 0
    while len(got) < len(bodies):
        status, at, frames = asks.poll(at)
        assert status == 200 and at == frames[-1]["at"]
        assert len(frames) == 1 or sum(len(json.dumps(f)) for f in frames) < 60_000
        got += [frame["message"] for frame in frames]
        parts += 1
    assert got == bodies and 3 < parts < 40, parts


def test_a_client_that_takes_little_keeps_its_answer(serve):
    server = serve("--streams", "--history", "100", "--handshake-timeout", "1")
    asks = Http(server.port(), receive_buffer=4096)
    at = asks.poll()[1]
    for _ in range(3):
        server.push(message="x" * 600_000)
    asks.write(asks.bytes_of("GET", f"/?stream=poll&since={at}"))
    got = 0
    while got < 1_800_000:
        time.sleep(0.01)
        data = asks.sock.recv(16_000)
        assert data, got
        got += len(data)
    asks.reset()


def test_all_polls_are_answered_by_one_publish(serve):
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    count = min(10_000, (hard - 500) // 2)
    server = serve("--streams", "--history", "5")
    at = http(server).poll()[1]
    links = []
    request = f"GET /?stream=poll&since={at} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
    before = server.rss_kib()
    for _ in range(count):
        link = Http(server.port())
        link.write(request)
        links.append(link)
    wait_until(lambda: server.metric("wsgw_polls_waiting") == count, "all wait", 60)
    each = (server.rss_kib() - before) * 1024 / count
    start = time.monotonic()
    stream = Lines(server)
    assert server.push(message="to all of you")[1]["delivered"] == 1
    assert stream.bodies(1) == ["to all of you"]
    took = time.monotonic() - start
    left = {link.sock.fileno(): link for link in links}
    poller = select.epoll()
    for fd in left:
        poller.register(fd, select.EPOLLIN)
    while left:
        ready = poller.poll(20)
        assert ready, f"{len(left)} of {count} were not answered"
        for fd, _ in ready:
            status, now, frames = result(left.pop(fd))
            assert (status, now, len(frames)) == (200, behind(at, 1), 1)
            poller.unregister(fd)
    all_took = time.monotonic() - start
    print(f"{count} polls, {each:.0f} bytes each; a stream had it after {took:.3f} s, "
          f"all after {all_took:.3f} s")
    for link in links:
        link.close()
    waiting(server, 0)
    assert each < 3000


@pytest.mark.parametrize("file", [False, True], ids=["memory", "file"])
def test_everything_comes_once_whatever_is_cut(serve, file):
    """Random publishes and polls, with clients that leave at random, against a list."""
    server = serve(config=f"""
[gateways.default]
port = 0
streams = true
channels = "query"
allow-channels = ["*"]
[gateways.default.history]
channels = {{ "*" = 100000 }}
broadcast = 100000
{'file = "history.db"' if file else ''}
""")
    seed = int(os.environ.get("SEED", "11"))
    names = ["a", "b", "c", "d"]
    sent, failed, over = [], [], threading.Event()
    rng = random.Random(seed)
    starts = [http(server).poll()[1] for _ in range(6)]

    def follow(seed, at):
        rng = random.Random(seed)
        mine = rng.sample(names, rng.randrange(4))
        query = "".join(f"&channel={name}" for name in mine)
        got, asks = [], http(server)
        try:
            while True:
                if rng.random() < 0.2:
                    # Leaves without an answer, or in the middle of one.
                    asks.write(asks.bytes_of("GET", f"/?stream=poll&since={at}{query}"))
                    if rng.random() < 0.5:
                        asks.sock.settimeout(0.05)
                        try:
                            asks.sock.recv(30)
                        except TimeoutError:
                            pass
                    (asks.reset if rng.random() < 0.5 else asks.close)()
                    asks = http(server)
                status, at, frames = asks.poll(at, query)
                assert status == 200, (status, frames)
                got += [frame["message"] for frame in frames]
                if "the end" in got:
                    break
                if rng.random() < 0.3:
                    over.wait(rng.random() * 0.05)
            want = [body for body, channels in sent
                    if channels is None or set(channels) & set(mine)]
            assert got == want, (mine, len(got), len(want))
        except Exception as error:  # noqa: BLE001
            failed.append(repr(error)[:2000])

    threads = [threading.Thread(target=follow, args=(seed * 100 + n, at))
               for n, at in enumerate(starts)]
    [thread.start() for thread in threads]
    streams = [Lines(server) for _ in range(2)]
    asks = http(server)
    for n in range(300):
        if rng.random() < 0.3:
            bodies = [f"{n}.{i}" for i in range(rng.randrange(1, 20))]
            # A client's messages go to all.
            assert asks.post(rng.choice(streams).token, "\n".join(bodies),
                             "application/x-ndjson")[0] == 204
            server.await_metric("wsgw_history_messages", len(sent) + len(bodies))
            sent += [(body, None) for body in bodies]
            continue
        channels = rng.choice([None, *[rng.sample(names, k) for k in (1, 1, 2, 3)]])
        struct = {"message": f"{n}"} | ({"channel": channels} if channels else {})
        sent.append((f"{n}", channels))
        server.push(struct)
        if rng.random() < 0.1:
            over.wait(rng.random() * 0.1)
    sent.append(("the end", None))
    server.push(message="the end")
    [thread.join(60) for thread in threads]
    assert not failed, "\n".join(failed)
    assert not any(thread.is_alive() for thread in threads)
    waiting(server, 0)


def test_an_answer_that_is_on_its_way_comes_out_whole_at_a_stop(serve):
    server = serve(*ROOMS, "--max-queue", "16MiB")
    at = http(server).poll()[1]
    for _ in range(5):
        server.push(message="x" * 900_000)
    asks = Http(server.port(), receive_buffer=65536)
    server.links.append(asks)
    client = server.connect()
    asks.write(asks.bytes_of("GET", f"/?stream=poll&since={at}"))
    server.await_metric("wsgw_polls_total", 2, status="200")
    server.signal()
    client.await_close()
    status, position, frames = result(asks)
    assert (status, position, len(frames)) == (200, behind(at, 5), 5)
    assert asks.at_eof()
    assert server.wait() == 0
