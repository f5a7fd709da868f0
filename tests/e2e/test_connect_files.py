"""Files that `wsgw connect` opens by a name that a user chose: the history, what is sent, passwords and headers."""

import base64
import os
import stat
import subprocess

import pytest

from harness import WSGW, PeerServer, close_and_wait, echo, private_env, run_connect, wait_until, ws_server


def device(path, minor):
    """A device like /dev/null (3) or /dev/full (7) of the test's own, for a careless chmod would break the machine's."""
    try:
        os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, minor))
        os.chmod(path, 0o666)
        open(path, "rb").close()
    except PermissionError:
        pytest.skip("devices cannot be made here")


def link(path, target):
    path.symlink_to(target)


def odd_files(tmp_path):
    """What may stand in a file's place, by name: how to make it, and what is said of it."""
    return {
        "null": (lambda p: (device(tmp_path / "device", 3), link(p, tmp_path / "device")), "device"),
        "full": (lambda p: (device(tmp_path / "device", 7), link(p, tmp_path / "device")), "device"),
        "fifo": (os.mkfifo, "pipe"),
        "directory": (os.mkdir, "directory"),
        "dangling": (lambda p: link(p, tmp_path / "nowhere"), "exists"),
        "huge": (lambda p: (p.touch(), os.truncate(p, 17 << 20)), "larger"),
    }


@pytest.mark.parametrize("kind", ["null", "full", "fifo", "directory", "dangling", "huge"])
def test_only_a_regular_file_is_a_history(terminal, tmp_path, kind):
    make, why = odd_files(tmp_path)[kind]
    history = tmp_path / "state/wsgw/history"
    history.parent.mkdir(parents=True)
    make(history)
    before = os.lstat(history), (tmp_path / "device").exists() and (tmp_path / "device").stat().st_mode
    with ws_server(echo) as url:
        t = terminal(url)
        t.wait(f"* no history: {history}").wait(why)
        for word in ("one", "two"):
            t.type(word + "\r").wait("< " + word)
        t.type("\x1b[A\r").wait_for(lambda: t.plain.count("< two") == 2, "the line before")
        t.type("\x04")
        assert t.exit() == 0 and t.plain.count("no history") == 1
        # With --no-history nothing is said.
        t = terminal("--no-history", url)
        t.wait("* connected").type("x\r").wait("< x").type("\x04")
        assert t.exit() == 0 and "no history" not in t.plain
    after = os.lstat(history), (tmp_path / "device").exists() and (tmp_path / "device").stat().st_mode
    assert (before[0].st_mode, before[0].st_size, before[1]) == (after[0].st_mode, after[0].st_size, after[1])
    assert not (tmp_path / "nowhere").exists()


def test_without_history_its_file_is_not_touched(terminal, tmp_path):
    history = tmp_path / "state/wsgw/history"
    with ws_server(echo) as url:
        t = terminal("--no-history", url)
        t.wait("* connected").type("one\r").wait("< one").type("\x04")
        assert t.exit() == 0 and not history.exists()


def test_a_history_that_is_exchanged_meanwhile_is_left_alone(terminal, tmp_path):
    history = tmp_path / "state/wsgw/history"
    with ws_server(echo) as url:
        t = terminal(url)
        t.wait("* connected").type("one\r").wait("< one")
        wait_until(lambda: history.exists() and "one" in history.read_text(), "the history")
        history.unlink()
        os.mkfifo(history)
        t.type("two\r").wait("< two").wait("no history").type("three\r").wait("< three").type("\x04")
        assert t.exit() == 0 and t.plain.count("no history") == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_a_history_of_somebody_else_is_left_alone(terminal, tmp_path):
    history = tmp_path / "state/wsgw/history"
    history.parent.mkdir(parents=True)
    history.write_text("#V2\ntheirs\n")
    os.chown(history, 12345, 12345)
    with ws_server(echo) as url:
        t = terminal(url)
        t.wait("* no history").wait("another user").type("one\r").wait("< one").type("\x04")
        assert t.exit() == 0
    assert history.read_text() == "#V2\ntheirs\n" and history.stat().st_mode & 0o777 == 0o644


def test_only_regular_files_are_sent(terminal, tmp_path):
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "huge").touch()
    os.truncate(tmp_path / "huge", (64 << 20) + 1)
    (tmp_path / "home").mkdir()
    (tmp_path / "home/mine").write_text("from home")
    (tmp_path / "bytes").write_bytes(b"\xff")
    with ws_server(echo) as url:
        t = terminal(url)
        t.wait("* connected")
        for line, said in [("/file /dev/zero", "/dev/zero: it is a device, not a regular file; nothing was sent"),
                           ("/binary @/dev/zero", "/dev/zero: it is a device, not a regular file; nothing was sent"),
                           (f"/file {tmp_path}/fifo", "fifo: it is a pipe, not a regular file"),
                           (f"/binary @{tmp_path}", "it is a directory, not a regular file"),
                           (f"/file {tmp_path}/huge", "huge: it is larger than"),
                           (f"/file {tmp_path}/bytes", "is not UTF-8 text"),
                           ("/file ~nobody/x", "not supported")]:
            before = len(t.plain)
            t.type(line + "\r").wait_for(lambda: said in t.plain[before:].replace("\r\n", ""), said)
        t.type("/file ~/mine\r").wait("< from home").type("/binary @~/mine\r").wait("< binary, 9 bytes")
        # Lines behind a file are sent behind it.
        (tmp_path / "large").write_text("L" * 900_000)
        t.type(f"/file {tmp_path}/large\rafter\r").wait("< after")
        assert t.plain.index("LLL") < t.plain.index("< after")
        t.type("/stats\r").wait("sent 4 messages").type("\x04")
        assert t.exit() == 0


def authorization(seen):
    return base64.b64decode(seen[-1].header("authorization")[0].removeprefix("Basic ")).decode()


def seeing(seen):
    def handler(peer):
        seen.append(peer)
        close_and_wait(peer.accept())
    return PeerServer(handler)


def test_a_password_is_asked_for_and_not_shown(terminal):
    seen = []
    with seeing(seen) as server:
        t = terminal("-u", "me", server.url)
        t.wait("password of me: ").type("wrong\x15s3cret\u00fc\x7f:x\r")
        assert t.exit() == 0 and authorization(seen) == "me:s3cret:x"
        assert "s3" not in t.text and "wrong" not in t.text
        # Stdin is for messages; the terminal is asked all the same.
        t = terminal("-c", f"echo hi | {WSGW} connect -u me {server.url}; echo over", command=["sh"])
        t.wait("password of me: ").type("s3cret\r").wait("over")
        assert t.exit() == 0 and authorization(seen) == "me:s3cret" and "s3cret" not in t.text


def test_ctrl_c_at_the_password_leaves_the_terminal_as_it_was(terminal):
    with seeing([]) as server:
        t = terminal("-c", f"stty -a > before; {WSGW} connect -u me {server.url}; echo status $?; stty -a > after; cmp before after && echo same",
                     command=["sh"])
        t.wait("password of me: ").type("s3\x03").wait("status 130").wait("same")
        assert t.exit() == 0


def test_without_a_terminal_nobody_is_asked(tmp_path):
    done = subprocess.run([WSGW, "connect", "-u", "me", "ws://127.0.0.1:1/"], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                          start_new_session=True, env=private_env(tmp_path), timeout=10)
    assert done.returncode == 2 and "--user-file" in done.stderr, done.stderr


def test_headers_and_passwords_come_from_files(tmp_path):
    seen = []
    (tmp_path / "headers").write_text("X-One: 1\r\n\nX-Two: 2\n")
    (tmp_path / "user").write_text("me:p4ss:word\nanother line\n")
    (tmp_path / "nocolon").write_text("me\n")
    (tmp_path / "home").mkdir()
    (tmp_path / "home/h").write_text("X-Home: yes")
    with seeing(seen) as server:
        done = run_connect(tmp_path, "-H", "@headers", "-H", "X-Three: 3", "-H", "@~/h", "--user-file", "user", server.url)
        assert done.returncode == 0, done.stderr
        assert [seen[0].header(f"x-{name}") for name in ("one", "two", "three", "home")] == [["1"], ["2"], ["3"], ["yes"]]
        assert authorization(seen) == "me:p4ss:word"
    for flags, why in [(["-H", "@/no/such"], "No such file"), (["-H", "@/dev/zero"], "larger than"), (["--user-file", "nocolon"], "NAME:PASSWORD"),
                       (["--user-file", "/no/such"], "No such file"), (["--user-file", "user", "-u", "a:b"], "cannot be used with"),
                       (["-H", "@nocolon"], "no colon")]:
        done = run_connect(tmp_path, *flags, "ws://127.0.0.1:1/")
        assert done.returncode == 2 and why in done.stderr, (flags, done.stderr)
