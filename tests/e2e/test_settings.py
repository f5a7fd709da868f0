"""Settings: what the file and the flags may hold, what is refused at the start, and where it is said."""

import os
import re
import stat
import subprocess

import pytest
from websockets.exceptions import InvalidStatus

from harness import ROOT, WSGW, private_env, run_cli, wait_until


def refused(directory, text, *flags):
    """The errors of a config file that does not start, a line each."""
    path = directory / "wsgw.toml"
    path.write_text(text)
    done = run_cli(directory, "serve", "--config", path, "--control", "off", *flags)
    assert done.returncode == 1, done
    lines = done.stderr.removeprefix("wsgw: ").splitlines()
    assert all(line.strip().startswith(f"{path}:") for line in lines), lines
    return [line.strip().removeprefix(f"{path}:") for line in lines]


@pytest.mark.parametrize("mode", ["0o660", '"0660"', '"660"'])
def test_the_control_sockets_mode_is_the_octal_one_that_is_written(serve, tmp_path, mode):
    sock = tmp_path / "c.sock"
    serve(config=f'[control]\nlisten = "unix:{sock}"\nmode = {mode}\n[gateways.a]\nport = 0\n',
          control=False)
    wait_until(sock.exists, "the socket")
    assert stat.S_IMODE(sock.stat().st_mode) == 0o660


@pytest.mark.parametrize("mode", ["660", "432", "0x1b0", "0b110110000", "true", "6.6", '"0o660"', '"0888"'])
def test_a_mode_in_any_other_notation_is_an_error(tmp_path, mode):
    (error,) = refused(tmp_path, f"[control]\nmode = {mode}\n")
    assert error.startswith("2: control.mode: "), error


def test_all_errors_of_a_file_are_told_at_once_each_with_its_line(tmp_path):
    errors = refused(tmp_path, '[control]\nmode = 432\n[log]\nlevle = "info"\n[gateways.a]\nport = true\n'
                               'path = [1]\nmax-queue = "x"\n[gateways.b]\ntls-cert = "c"\nprot = 5\n')
    assert [int(error.split(":")[0]) for error in errors] == [2, 4, 6, 7, 8, 9, 11]
    assert 'did you mean "level"?' in errors[1] and 'did you mean "port"?' in errors[6]


def test_a_reload_with_errors_tells_them_all_and_changes_nothing(serve):
    server = serve(config="[gateways.a]\nport = 0\n")
    before = server.status("a")["address"]
    server.config.write_text("[gateways.a]\nport = -1\nroute = 1\n")
    status, answer = server.api("POST", "/v1/reload")
    assert status >= 400
    text = answer["error"]["message"]
    assert f"{server.config}:2: " in text and f"{server.config}:3: " in text
    assert server.status("a")["address"] == before


@pytest.mark.parametrize("flags", [("--log-dir=~/logs",), ()])
def test_a_tilde_in_a_path_is_the_home_directory(serve, flags):
    """No directory named ~ is made anywhere."""
    directory = "" if flags else '[log]\ndirectory = "~/logs"\n'
    server = serve(*flags, config=f"{directory}[gateways.a]\nport = 0\n", log_dir=False)
    log = server.dir / "home/logs/WebSocket.log"
    wait_until(log.exists, "the log at home")
    assert not (server.dir / "~").exists()


def test_origins_with_an_international_name_match_what_browsers_send(serve):
    server = serve("--allow-origin", "https://bücher.example,https://*.müller.example:8443")
    for origin in ("https://xn--bcher-kva.example", "https://xn--bcher-kva.example:443",
                   "https://www.xn--mller-kva.example:8443"):
        server.connect(origin=origin).close()
    for origin in ("https://bucher.example", "https://xn--bcher-kva.example:8443"):
        with pytest.raises(InvalidStatus) as refusal:
            server.connect(origin=origin)
        assert refusal.value.response.status_code == 403


def test_a_path_with_letters_beyond_ascii_matches_what_clients_send(serve):
    server = serve("--path", "/bücher/*")
    server.connect("/b%C3%BCcher/1").close()
    with pytest.raises(InvalidStatus):
        server.connect("/b/1")


@pytest.mark.parametrize(("flag", "value", "why"), [
    ("--allow-origin", "https://a.example/", "no path"),
    ("--allow-origin", "wss://a.example", "https://"),
    ("--allow-origin", "https://a.example:*", "scheme://host"),
    ("--path", "/chat?room=1", "can never match"),
    ("--headers", "x-*-y", "at its end"),
    ("--protocol", "v1.*", "stands alone"),
    ("--trusted-proxies", "10.0.0.0/40", "10.0.0.0/8"),
    ("--host", "127.0.0.1:80", "the port is a setting of its own"),
    ("--tls-cert", "c.pem", "tls-key is missing"),
    ("--max-message", "16MiB", "max-line"),
    ("--channels", "path", "set allow-channels"),
    ("--channels", "rooms", "off, path, query"),
    ("--allow-channels", "room 1", "' '"),
    ("--presence", "bücher", "'ü'"),
    ("--max-channels", "0", "from 1 to 65536"),
    ("--history", "1000001", "from 0 to 1000000"),
    ("--history", "{}", "not a whole number"),
    ("--hooks", "onJoined", "onJoin, onMessage, onLeave"),
])
def test_a_setting_that_cannot_work_is_an_error_at_the_start(tmp_path, flag, value, why):
    done = run_cli(tmp_path, "serve", "--port", "0", "--control", "off", flag, value)
    assert done.returncode == 2 and why in done.stderr, done


CHANNELS = """
[gateways.a]
port = 0
channels = "query"
history = 5
[gateways.b]
port = 0
allow-channels = ["ok", "not ok"]
[gateways.b.history]
channels = { "room.*" = 100, "a b" = 1, load = -1 }
since = "q7Zk2pYa-1040"
bytes = true
files = "b.db"
"""


def test_every_error_of_channels_and_history_is_told_with_its_line(tmp_path):
    errors = refused(tmp_path, CHANNELS)
    for error, (line, part) in zip(errors, [
            (2, "gateways.a: channels lets a URL ask for any channel"),
            (5, "gateways.a.history: expected a table"),
            (8, 'gateways.b.allow-channels: invalid pattern of channels "not ok"'),
            (10, 'gateways.b.history.channels."a b": '),
            (10, 'gateways.b.history.channels."load": "-1" is not a whole number'),
            (11, "gateways.b.history.since: "),
            (12, "gateways.b.history.bytes: expected a size"),
            (13, 'gateways.b.history: unknown key "files" (did you mean "file"?)')], strict=True):
        assert error.startswith(f"{line}: ") and part in error, errors


def test_two_gateways_cannot_have_one_history_file(tmp_path):
    (error,) = refused(tmp_path, '[gateways.a.history]\nfile = "h.db"\n[gateways.b.history]\nfile = "./h.db"\n')
    assert error.startswith("3: gateways.b: history.file is ") and "gateway a" in error, error


def test_channels_of_urls_start_with_patterns_or_with_a_listener_that_is_asked(serve):
    serve("--channels", "query", "--allow-channels", "room.*,lobby", "--presence", "room.*", "--history", "5",
          "--route", "channels")
    serve("--channels", "path", "--hooks", "onHandshake,onJoin,onLeave", "--", "cat")


def test_a_change_of_the_history_applies_to_the_gateway_that_runs(serve):
    server = serve(config="[gateways.default]\nport = 0\n")
    client = server.connect()
    server.config.write_text("[gateways.default]\nport = 0\npresence = 'x'\n"
                             "[gateways.default.history]\nfile = 'h.db'\n")
    assert server.api("POST", "/v1/reload")[0] == 200
    server.await_log("presence has no effect, for no client can join a channel")
    server.await_log("history keeps no message")
    client.send("still here")
    assert client.recv(timeout=10) == "still here"


def test_a_setting_without_effect_is_a_warning_at_the_start(serve):
    server = serve("--hooks", "onHandshake", "--trusted-proxies", "10.0.0.1/8")
    server.await_log("hooks has no effect without a listener")
    server.await_log(r"10\.0\.0\.1/8 stands for all of 10\.0\.0\.0/8")


def test_a_reload_warns_of_settings_without_effect(serve):
    server = serve(config="[gateways.a]\nport = 0\n")
    server.config.write_text("[gateways.a]\nport = 0\nwindow = 5\n")
    assert server.api("POST", "/v1/reload")[0] == 200
    server.await_log("window has no effect without a listener")


def test_clients_understand_a_tilde_in_their_flags(tmp_path):
    home = tmp_path / "home"
    for args in (("--control", "http://127.0.0.1:9", "--token-file=~/token"), ("--control=unix:~/c.sock",)):
        done = run_cli(tmp_path, "send", *args, "x")
        assert f"{home}/" in done.stderr and "~" not in done.stderr, done
    for flags in (("--cacert=~/ca.pem",), ("--cert=~/c.pem", "--key=~/k.pem")):
        done = run_cli(tmp_path, "connect", *flags, "wss://127.0.0.1:9/")
        assert f"{home}/" in done.stderr and "~" not in done.stderr, done
    given = run_cli(tmp_path, "serve", "--config=~/no.toml", "--control", "off")
    assert given.returncode == 1 and f"{home}/no.toml" in given.stderr, given


def ids(text):
    return re.sub(r"\W+", "-", text)


DURATIONS = ["1m30s", "90", "0.5", "250ms", "1h", "1h 30m"]
WRONG_DURATIONS = ["-1", "x", "1m30", "11y", "4000d", "inf"]


@pytest.mark.parametrize("text", DURATIONS, ids=ids)
def test_every_flag_that_takes_a_time_reads_the_same_durations(tmp_path, text):
    """A usage error is 2; whatever comes later means that the time was read."""
    nobody = "http://127.0.0.1:9"
    for args in (("send", "--control", nobody, "--timeout", text, "x"),
                 ("send", "--control", "bad url", "--retry", text, "x"),
                 ("status", "--control", nobody, "--timeout", text),
                 ("serve", "--control", "off", "--listener-timeout", text, "--host", "256.0.0.1.invalid.")):
        done = run_cli(tmp_path, *args)
        assert "uration" not in done.stderr, (args, done)
    for flag in ("--timeout", "--ping", "--wait"):
        done = run_cli(tmp_path, "connect", flag, text, "ws://127.0.0.1:9/")
        assert done.returncode == 3, (flag, done)


@pytest.mark.parametrize("text", WRONG_DURATIONS, ids=ids)
def test_every_flag_that_takes_a_time_refuses_the_same_durations(tmp_path, text):
    for args in (("send", "--timeout", text, "x"), ("send", "--retry", text, "x"),
                 ("status", "--timeout", text), ("serve", "--control", "off", f"--drain={text}"),
                 ("connect", f"--timeout={text}"), ("connect", f"--ping={text}")):
        args = [arg for arg in args]
        if text == "-1" and not args[-1].endswith("=-1"):
            args = [*args[:1], f"{args[1]}={text}", *args[3:]]
        done = run_cli(tmp_path, *args)
        assert done.returncode == 2, (args, done)


def test_localhost_is_bound_where_clients_look_first(serve):
    server = serve("--host", "localhost")
    assert server.status()["address"].startswith("ws://127.0.0.1:")
    server.connect().close()


# A default config file that is there and cannot be used.


def unusable(kind, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    if kind == "directory":
        path.mkdir()
    elif kind == "dangling link":
        path.symlink_to(path.parent / "nowhere")
    elif kind == "loop":
        path.symlink_to(path)
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "no text":
        path.write_bytes(b"\xff\xfe")
    elif kind == "no end":
        path.symlink_to("/dev/zero")
    elif kind == "not readable":
        path.write_text("[gateways.a]\n")
        path.chmod(0)
    elif kind == "closed directory":
        path.write_text("[gateways.a]\n")
        path.parent.chmod(0)


KINDS = ["directory", "dangling link", "loop", "pipe", "no text", "no end", "not readable", "closed directory"]


def unprivileged():
    """For a child: not root, who may read everything."""
    if os.geteuid() == 0:
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)


@pytest.fixture
def home(tmp_path):
    """Directories that an unprivileged child can reach and write."""
    env = private_env(tmp_path)
    for path in (tmp_path, *tmp_path.parents):
        if str(path).startswith("/tmp/pytest") and path.owner() != "nobody":
            path.chmod(path.stat().st_mode | 0o055)
    if os.geteuid() == 0:
        for name in ("home", "state", "config"):
            os.chown(tmp_path / name, 65534, 65534)
    yield tmp_path, env
    for path in (tmp_path / "config/wsgw", tmp_path / "config/wsgw/wsgw.toml"):
        if path.is_dir() or path.is_file():
            path.chmod(0o755)


def run_as_nobody(home, *args):
    directory, env = home
    return subprocess.run([WSGW, "serve", *args], env=env, cwd=directory, capture_output=True, text=True,
                          timeout=60, stdin=subprocess.DEVNULL, preexec_fn=unprivileged)


@pytest.mark.parametrize("kind", KINDS, ids=ids)
def test_a_default_config_that_is_there_and_cannot_be_read_is_never_passed_over(home, kind):
    path = home[0] / "config/wsgw/wsgw.toml"
    unusable(kind, path)
    if os.geteuid() == 0:
        os.chown(path.parent, 65534, 65534)
        os.chown(path, 65534, 65534, follow_symlinks=False)
    done = run_as_nobody(home)
    assert done.returncode == 1, done
    assert str(path) in done.stderr and "cannot be read: " in done.stderr, done
    assert "listening" not in done.stdout


@pytest.mark.parametrize("kind", ["directory", "dangling link", "loop", "no text", "no end", "not readable"],
                         ids=ids)
def test_a_given_config_that_cannot_be_read_says_why(home, kind):
    path = home[0] / "config/wsgw/wsgw.toml"
    unusable(kind, path)
    done = run_as_nobody(home, "--config", str(path))
    assert done.returncode == 1, done
    assert str(path) in done.stderr and "cannot be read: " in done.stderr, done


def test_a_config_from_a_pipe_is_read(tmp_path):
    done = subprocess.run(["bash", "-c", f"exec {WSGW} serve --config <(printf '[gateways.a]\\nport = true\\n')"],
                          env=private_env(tmp_path), capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and ":2: gateways.a.port: " in done.stderr, done


def test_flags_set_an_unusable_default_config_aside_as_any_other(serve, tmp_path):
    config = tmp_path / "config"
    (config / "wsgw/wsgw.toml").mkdir(parents=True)
    server = serve(env={"XDG_CONFIG_HOME": str(config)})
    server.await_log("is set aside, for flags name a gateway")


def test_no_config_at_all_is_fine(tmp_path):
    """Where the home directory is not even a directory, as service users have it."""
    for home in ("/dev/null", "/nonexistent"):
        env = {**private_env(tmp_path), "HOME": home, "XDG_CONFIG_HOME": f"{home}/.config"}
        done = subprocess.run([WSGW, "serve", "--control", "127.0.0.1:0", "--log-dir", str(tmp_path / "log"),
                               "--log-level", "nonsense"], env=env, capture_output=True, text=True, timeout=60)
        assert done.returncode == 2 and "cannot be read" not in done.stderr, done


# The documents.


def test_help_names_every_default_that_the_documents_name(tmp_path):
    shown = re.sub(r"\s+", " ", run_cli(tmp_path, "serve", "--help").stdout)
    page = (ROOT / "docs/operations.md").read_text()
    # The table of the reasons of refusals looks the same.
    page = re.sub(r"^### Refused connections$.*?(?=^##)", "", page, flags=re.M | re.S)
    rows = re.findall(r"^\| `([a-z-]+)` \| ([^|]+?) \|", page, re.M)
    assert len(rows) > 30
    for key, default in rows:
        flag = "protocol" if key == "protocols" else key
        found = re.search(rf"--{flag}(?: <[^>]+>|\[=<[^>]+>\]) (.*?)(?= --[a-z]|$)", shown)
        named = found and re.search(r"\[default: ([^\]]+)\]", found[1])
        assert found and (named[1] if named else "none") == default.strip("`"), key


