"""`wsgw serve --check-config`: all that is wrong with a config, without binding or starting anything."""

import os
import socket
import stat

import pytest

from harness import certificate, run_cli


def check(tmp_path, text, *args, **options):
    file = tmp_path / "wsgw.toml"
    file.write_text(text)
    return run_cli(tmp_path, "serve", "--check-config", "--config", file, *args, **options)


def wrong(tmp_path, text, *args):
    """What is said of a bad config, a line for each error."""
    done = check(tmp_path, text, *args)
    assert done.returncode == 1 and done.stdout == "", done
    return done.stderr


def program(tmp_path, name, text="#!/bin/sh\nexec cat\n", mode=0o755):
    path = tmp_path / name
    path.write_text(text)
    path.chmod(mode)
    return path


def test_a_good_config_is_called_good(tmp_path):
    program(tmp_path, "chat")
    done = check(tmp_path, '[gateways.a]\nlistener = ["./chat"]\n[gateways.b]\nport = 10126\n')
    assert done.returncode == 0 and done.stderr == "", done
    assert done.stdout == f"{tmp_path}/wsgw.toml: good, 2 gateways\n"
    done = check(tmp_path, "[gateways.a]\n")
    assert done.stdout == f"{tmp_path}/wsgw.toml: good, 1 gateway\n"


def test_all_errors_are_named_with_their_lines(tmp_path):
    """Those of the text, those of what it names, and contradictions, in one run."""
    cert, key = certificate(tmp_path, name="one")
    _, other = certificate(tmp_path, name="two")
    program(tmp_path, "plain", mode=0o644)
    (tmp_path / "file").write_text("x")
    said = wrong(tmp_path, f"""
[control]
listen = "unix:{tmp_path}/file"
[log]
directory = "{tmp_path}/file/logs"
[defaults]
port = 0
[gateways.a]
prot = 1
listener = ["no-such-program"]
[gateways.b]
listener = ["./plain"]
[gateways.c]
tls-cert = "{cert}"
tls-key = "{other}"
[gateways.d]
tls-cert = "{tmp_path}/none.pem"
tls-key = "{key}"
static = "{tmp_path}/none"
[gateways.e]
host = "unix:{tmp_path}/e.sock"
group = "no-such-group"
[gateways.f]
host = "unix:{tmp_path}/file/f.sock"
[gateways.g]
max-line = "1KiB"
[gateways.h]
history = {{ broadcast = 1, file = "{tmp_path}/file" }}
[gateways.i]
history = {{ broadcast = 1, file = "{tmp_path}/no/such/directory" }}
""")
    lines = said.splitlines()
    for line, *parts in [
        (2, "control", "not a socket"),
        (4, "log", "not a directory"),
        (9, "gateways.a", "prot", "did you mean"),
        (8, "gateways.a", "listener", "no-such-program", "in PATH"),
        (11, "gateways.b", "listener", "chmod +x"),
        (13, "gateways.c", "not that of the certificate"),
        (16, "gateways.d", "none.pem"),
        (16, "gateways.d", "static files"),
        (20, "gateways.e", "no-such-group"),
        (23, "gateways.f", "not a directory"),
        (25, "gateways.g", "max-line"),
        (27, "gateways.h", "not an SQLite database"),
        (29, "gateways.i", "does not exist"),
    ]:
        found = [said for said in lines if f"wsgw.toml:{line}: " in said and all(p in said for p in parts)]
        assert len(found) == 1, (line, parts, said)
    assert len(lines) == 13, said


@pytest.mark.parametrize("key, value, part", [
    ("listener", '"no-such-program --flag"', "in PATH"),
    ("listener", '["python3", "no-such-file.py"]', "no-such-file.py"),
    ("listener", '["./gone"]', "/no/such/interpreter"),
    ("listener", '["./windows"]', "line ends"),
    ("host", '"no-such-host.invalid"', "cannot be resolved"),
    ("host", '"unix:/tmp/' + "x" * 120 + '"', "too long"),
])
def test_what_a_gateway_names_is_looked_at(tmp_path, key, value, part):
    program(tmp_path, "gone", "#!/no/such/interpreter\n")
    program(tmp_path, "windows", "#!/bin/sh\r\ncat\r\n")
    assert part in wrong(tmp_path, f"[gateways.a]\n{key} = {value}\n")


def test_what_the_control_port_names_is_looked_at(tmp_path):
    (tmp_path / "token").write_text("short")
    said = wrong(tmp_path, '[control]\nlisten = "0.0.0.0:10124"\ntoken-file = "token"\n')
    assert "not a loopback address" in said and "the token" in said, said


def test_a_syntax_error_is_told_alone(tmp_path):
    said = wrong(tmp_path, "[gateways.a\nport = 1\n")
    assert said.startswith(f"wsgw: {tmp_path}/wsgw.toml:1: "), said


def test_it_binds_and_starts_nothing(tmp_path):
    """Also where the ports and sockets are taken: by the `serve` that runs, perhaps."""
    trace = tmp_path / "started"
    program(tmp_path, "listener", f"#!/bin/sh\ntouch {trace}\ncat\n")
    with socket.socket() as taken, socket.socket(socket.AF_UNIX) as unix:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        unix.bind(str(tmp_path / "b.sock"))
        unix.listen()
        port = taken.getsockname()[1]
        before = sorted(os.listdir(tmp_path))
        done = check(tmp_path, f"""
[control]
listen = "127.0.0.1:{port}"
directory = "{tmp_path}/run"
[log]
directory = "{tmp_path}/logs"
[gateways.a]
port = {port}
listener = ["./listener"]
[gateways.b]
host = "unix:{tmp_path}/b.sock"
[gateways.c]
host = "unix:{tmp_path}/made/by/serve/c.sock"
history = {{ broadcast = 1, file = "{tmp_path}/history.db" }}
""")
        assert done.returncode == 0, done
        assert stat.S_ISSOCK(os.stat(tmp_path / "b.sock").st_mode)
    made = set(os.listdir(tmp_path)) - set(before) - {"wsgw.toml", "home", "state", "config"}
    assert not made and not trace.exists(), made
    assert os.listdir(tmp_path / "state") == []


def test_warnings_are_told_and_are_no_errors(tmp_path):
    done = check(tmp_path, "[gateways.a]\nwindow = 5\n")
    assert done.returncode == 0 and "good, 1 gateway" in done.stdout
    assert done.stderr == "warning: gateway a: window has no effect without a listener\n"


def test_flags_are_checked_too(tmp_path):
    good = run_cli(tmp_path, "serve", "--check-config", "--", "cat")
    assert good.returncode == 0 and good.stdout == "no config file: good, 1 gateway\n", good
    bad = run_cli(tmp_path, "serve", "--check-config", "--max-line", "1KiB", "--", "no-such-program")
    assert bad.returncode == 1, bad
    assert "no-such-program" in bad.stderr and "max-line" in bad.stderr, bad.stderr
    on_file = check(tmp_path, "[gateways.a]\n", "--", "no-such-program")
    assert on_file.returncode == 1 and "wsgw.toml:1: gateways.a: listener" in on_file.stderr, on_file


def test_a_default_file_is_found(tmp_path):
    path = tmp_path / "config" / "wsgw" / "wsgw.toml"
    path.parent.mkdir(parents=True)
    path.write_text('[gateways.a]\nlistener = ["no-such-program"]\n')
    done = run_cli(tmp_path, "serve", "--check-config")
    assert done.returncode == 1 and f"{path}:1: gateways.a: listener" in done.stderr, done


def test_a_log_directory_that_cannot_be_made(tmp_path):
    done = run_cli(tmp_path, "serve", "--check-config", "--log-dir", "/proc/nope", "--", "cat")
    assert done.returncode == 1 and "/proc" in done.stderr, done
