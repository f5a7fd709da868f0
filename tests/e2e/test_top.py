"""`wsgw top` at pseudo-terminals of several sizes, over a real `serve`."""

import os
import re
import signal
from pathlib import Path

import pytest

from harness import WSGW, wait_until
from harness.screen import Screen

TWO = """
[gateways.alpha]
port = 0
listener = ["cat"]
allow-origin = ["https://good.example"]

[gateways.beta]
port = 0
"""


@pytest.fixture
def top(tmp_path):
    """Starts `wsgw top` at a terminal, for a `serve`."""
    screens = []

    def start(server, *args, **options):
        env = {name: server.env[name] for name in ("HOME", "XDG_STATE_HOME", "XDG_CONFIG_HOME")}
        control = () if options.pop("found", False) else ("--control", server.control_url)
        if control:
            env["WSGW_TOKEN"] = server.token
        screen = Screen(tmp_path, *args, *control, command=(WSGW, "top"), **{**env, **options})
        screens.append(screen)
        return screen

    yield start
    for screen in screens:
        screen.kill()


def left_alone(screen, before):
    """The terminal's line is as it was, the cursor is back and so is the first screen."""
    assert screen.attributes() == before
    assert screen.text.rindex("\x1b[?1049l") > screen.text.rindex("\x1b[?1049h")
    assert screen.text.rindex("\x1b[?25h") > screen.text.rindex("\x1b[?25l")


@pytest.mark.parametrize(("columns", "lines"), [(40, 10), (80, 24), (100, 40), (250, 70)])
def test_sizes(serve, top, columns, lines):
    server = serve(config=TWO)
    clients = [server.connect(gateway="alpha") for _ in range(3)]
    screen = top(server, columns=columns, lines=lines)
    screen.see("wsgw ok", "2/2 running", "3 conns", "GATEWAY", "alpha", "beta", "q quit")
    assert all(len(row) == columns for row in screen.rows)
    (alpha,) = [row for row in screen.rows if row.startswith("alpha")]
    assert alpha.split()[:3] == ["alpha", "running", "3"]
    # More room shows more.
    assert ("ADDRESS" in screen.shown) == (columns >= 120)
    assert ("unanswered" in screen.shown) == (lines >= 24)
    if lines != 24:
        assert (" log ─" in screen.shown) == (lines >= 40)
    # Messages become rates.
    for _ in range(300):
        clients[0].send("x")
    screen.wait_for(lambda: re.search(r"in [1-9]\d*(\.\d)?/s", screen.shown), "a rate")
    screen.type("q")
    assert screen.exit() == 0


@pytest.mark.parametrize(("how", "code"), [("q", 0), ("\x03", 130), (signal.SIGTERM, 143),
                                           (signal.SIGINT, 130)])
def test_it_leaves_the_terminal_as_it_was(serve, top, how, code):
    screen = top(serve())
    # `stty` may not have run when the attributes are read, but it changes none of them.
    before = None

    def entered():
        return "\x1b[?1049h" in screen.text

    before = screen.attributes()
    screen.wait_for(entered, "the alternate screen").see("default")
    if isinstance(how, str):
        screen.type(how)
    else:
        os.kill(screen.pid, how)
    fd = os.dup(screen.fd)
    assert screen.exit() == code
    screen.fd = fd
    left_alone(screen, before)


def test_it_sorts_and_selects(serve, top):
    server = serve(config=TWO)
    for _ in range(2):
        server.connect(gateway="beta")
    server.connect(gateway="alpha")
    screen = top(server, columns=100, lines=30).see("3 conns")

    def order():
        return [row.split()[0] for row in screen.rows if row.startswith(("alpha ", "beta "))]

    assert order() == ["alpha", "beta"]
    screen.type("c").wait_for(lambda: order() == ["beta", "alpha"], "the larger one first")
    screen.type("c").wait_for(lambda: order() == ["alpha", "beta"], "the smaller one first")
    screen.type("n").wait_for(lambda: order() == ["alpha", "beta"], "names")
    screen.type("n").wait_for(lambda: order() == ["beta", "alpha"], "names turned round")
    # Keys of a real terminal: the arrow down, Enter, Escape.
    screen.type("n\x1b[B").see(" beta ─").type("\r").see("Esc back")
    assert "GATEWAY" not in screen.shown
    screen.type("\x1b").see("GATEWAY")


def test_help_and_log(serve, top):
    server = serve()
    screen = top(server).see("GATEWAY")
    screen.type("?").see("sort by connections", "leave").type("?").see("GATEWAY")
    screen.type("l").see("log", "INFO").type("l").see("GATEWAY")


def test_ctrl_l_draws_everything_anew(serve, top):
    screen = top(serve()).see("GATEWAY")
    before = len(screen.text)
    screen.type("\x0c").wait_for(lambda: "GATEWAY" in screen.text[before:], "the heads again")
    screen.type("q")
    assert screen.exit() == 0


def test_one_gateway(serve, top):
    server = serve(config=TWO)
    screen = top(server, " ALPHA ").see("alpha", "cat", "256 unanswered")
    assert "beta" not in screen.shown
    screen.type("q")
    assert screen.exit() == 0


def test_a_new_size(serve, top):
    screen = top(serve(), columns=80, lines=24).see("GATEWAY")
    screen.resize(40, 10).wait_for(
        lambda: "q quit" in screen.rows[9] and "GATEWAY" in screen.rows[2], "the small picture")
    screen.resize(120, 50).wait_for(lambda: "q quit" in screen.rows[49], "the large picture")
    screen.resize(10, 3).wait_for(lambda: screen.rows[0].startswith("wsgw ok"), "a tiny picture")
    screen.resize(80, 24).see("GATEWAY", "q quit")


def test_what_it_shows_of_a_gateway(serve, top, tmp_path):
    script = "import sys\nprint('h\\x1b]0;title\\x07i', file=sys.stderr, flush=True)\n" \
             "for line in sys.stdin: print(line, end='', flush=True)\n"
    config = f"""
[gateways.chat]
port = 0
listener = ["python3", "-c", '''{script}''']
allow-origin = ["https://good.example"]

[gateways.broken]
port = 0
listener = ["/no/such/program"]
"""
    server = serve(config=config, wait=False)
    server.await_control()
    server.port("chat")
    for _ in range(2):
        link = server.raw(gateway="chat")
        assert link.request(headers={"Origin": "https://bad.example"}).response()[0] == 403
    client = server.connect(gateway="chat")
    screen = top(server, columns=120, lines=50)
    screen.see("1/2 running", "failed", "/no/such/program", "degraded")
    screen.type("\x1b[B").see(" chat ─", "2  origin  key: allow-origin", r"h\x1b]0;title\x07i",
                              "python3")
    # Times are those of the answers that came while somebody looked.
    client.send("x")
    assert client.recv() == "x"
    screen.wait_for(lambda: re.search(r"p50 [\d.]+(µs|ms)  p99 [\d.]+(µs|ms)  of 1 answer", screen.shown),
                    "times")
    screen.type("\x1b[A").see(" broken ─", "last error")
    # Nothing that came from outside acted on the terminal.
    assert "\x1b]0;title" not in screen.text and "\x1b]" not in screen.text


def test_serve_goes_and_comes_back(serve, top, tmp_path):
    token = tmp_path / "token"
    token.write_text("a-token-of-22-characters-or-more\n")
    first = serve("--control-token-file", token, name="one")
    screen = top(first, columns=90, found=True).see("1/1 running")
    port, control = first.port(), first.control_port
    first.stop()
    screen.see("serve is gone", "trying again", "default")
    second = serve("--control", f"127.0.0.1:{control}", "--port", port, "--control-token-file", token,
                   name="one", control=False, port=False)
    screen.see("1/1 running").wait_for(lambda: "serve is gone" not in screen.shown, "no banner")
    second.stop()
    screen.see("serve is gone").type("q")
    assert screen.exit() == 0


def test_a_serve_that_is_silent(serve, top):
    server = serve()
    screen = top(server).see("1/1 running")
    server.signal(signal.SIGSTOP)
    screen.see("no news for")
    server.signal(signal.SIGCONT)
    screen.wait_for(lambda: "no news" not in screen.shown, "news")


def test_suspended_and_continued(serve, top, tmp_path):
    """Under a shell with job control, as at a desk."""
    server = serve()
    env = {name: server.env[name] for name in ("HOME", "XDG_STATE_HOME")}
    shell = Screen(tmp_path, command=("bash", "--norc", "-i"), PS1="ready> ", **env)
    try:
        shell.see("ready>").type(f"{WSGW} top\r").see("1/1 running")
        shell.type("\x1a").see("Stopped", "ready>")
        shell.type("echo $((6 * 7))\r").see("42")
        shell.type("fg\r").see("1/1 running", "GATEWAY")
        before = len(shell.text)
        shell.type("q").wait_for(lambda: "ready>" in shell.text[before:], "the shell")
    finally:
        shell.kill()


def test_a_terminal_that_takes_nothing(serve, top):
    """Nobody reads what is drawn: a signal ends the program all the same."""
    screen = top(serve(), columns=200, lines=60).see("1/1 running")
    # Ctrl-L: all of it is drawn anew, more than the terminal's queue holds.
    for _ in range(100):
        screen.type("\x0c")
    wait_until(lambda: blocked(screen.pid), "the end of the terminal's patience")
    os.kill(screen.pid, signal.SIGTERM)
    status = wait_until(lambda: os.waitpid(screen.pid, os.WNOHANG)[1], "its end", 10)
    screen.status = os.waitstatus_to_exitcode(status)
    assert screen.status == 143


def blocked(pid):
    """Whether the main thread waits for the terminal to take what it writes."""
    return "wait_woken" in Path(f"/proc/{pid}/wchan").read_text()


@pytest.mark.parametrize(("env", "colored"), [({"NO_COLOR": ""}, True), ({"NO_COLOR": "1"}, False)])
def test_colours(serve, top, env, colored):
    screen = top(serve(), **env).see("running", "q quit")
    codes = {code for codes in re.findall(r"\x1b\[([0-9;]*)m", screen.text) for code in codes.split(";")}
    assert bool(codes & {"31", "32", "33", "34", "36", "38"}) == colored


# What is said before anything is drawn.


def test_without_a_terminal(serve, tmp_path):
    server = serve()
    done = server.cli("top")
    assert (done.returncode, done.stdout) == (2, ""), done
    assert "needs a terminal" in done.stderr and "wsgw status" in done.stderr


def test_an_unknown_gateway(serve, top):
    screen = top(serve(config=TWO), "nobody")
    assert screen.exit() == 4
    assert "alpha, beta" in screen.plain and "\x1b[?1049h" not in screen.text


def test_without_a_serve(tmp_path):
    screen = Screen(tmp_path, command=(WSGW, "top"))
    assert screen.exit() == 3
    assert "\x1b[?1049h" not in screen.text


def test_nothing_is_left_behind_in_serve(serve, top):
    """A watcher that has gone is noticed."""
    server = serve()
    screen = top(server).see("1/1 running")
    before = server.descriptors().get("socket", 0)
    screen.type("q")
    assert screen.exit() == 0
    wait_until(lambda: server.descriptors().get("socket", 0) < before, "the end of its connection")
