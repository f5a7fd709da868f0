"""The packages: they are built, installed, used and removed, in a copy of this machine's root."""

import contextlib
import fcntl
import gzip
import os
import re
import subprocess
from pathlib import Path

import pytest

from harness import ROOT, WSGW, run_cli, tool
from harness.scratch import Scratch

PACKAGING = ROOT / "packaging"
UNIT = (PACKAGING / "wsgw.service").read_text()
COMMANDS = ("serve", "send", "connect", "status", "start", "stop", "restart", "reload", "connections",
            "channels", "history", "close", "open", "top", "check", "bench", "completions", "man")


def built(pattern):
    """The package of that kind, newer than what it is made of, or None."""
    found = list((ROOT / "target").glob(pattern))
    made_of = [Path(WSGW), ROOT / "Cargo.toml", *PACKAGING.rglob("*"), ROOT / "examples/wsgw.toml",
               ROOT / "examples/grafana.json"]
    newest = max(path.stat().st_mtime for path in made_of)
    return found[0] if found and found[0].stat().st_mtime > newest else None


@pytest.fixture(scope="module")
def package():
    """Builds both packages, once for all processes that test; a function from kind to file."""
    patterns = {"deb": "debian/*.deb", "rpm": "generate-rpm/*.rpm"}
    with contextlib.ExitStack() as stack:
        lock = stack.enter_context(open(ROOT / "target/packages.lock", "w"))
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not all(built(pattern) for pattern in patterns.values()):
            path = f"{ROOT}/target/tests/cargo/bin:{os.environ['PATH']}"
            env = {**os.environ, "PATH": path, "BINARY": WSGW, "FAST": "1"}
            env.pop("CARGO_TARGET_DIR", None)
            done = subprocess.run([PACKAGING / "build.sh"], env=env, capture_output=True, text=True)
            assert done.returncode == 0, done.stderr
    return lambda kind: built(patterns[kind])


@pytest.fixture
def scratch(tmp_path):
    with Scratch(tmp_path / "root") as root:
        yield root


INSTALLED = [
    "/etc/wsgw/wsgw.toml", "/usr/bin/wsgw", "/usr/lib/systemd/system/wsgw.service",
    "/usr/lib/systemd/system/wsgw.socket", "/usr/lib/sysusers.d/wsgw.conf",
    "/usr/share/bash-completion/completions/wsgw",
    "/usr/share/fish/vendor_completions.d/wsgw.fish", "/usr/share/doc/wsgw/README.md",
    "/usr/share/doc/wsgw/docs/tour/top.svg", "/usr/share/doc/wsgw/examples/wsgw.toml",
    "/usr/share/doc/wsgw/examples/grafana.json",
    "/usr/share/man/man1/wsgw.1.gz", *[f"/usr/share/man/man1/wsgw-{name}.1.gz" for name in COMMANDS],
]


def use(root):
    """What an operator does behind the installation."""
    assert root.run("wsgw", "--version").startswith("wsgw ")
    assert "WebSocket gateway" in root.run("getent", "passwd", "wsgw")
    assert root.run("man", "-w", "wsgw-serve").strip() == "/usr/share/man/man1/wsgw-serve.1.gz"
    for unit in ("wsgw.service", "wsgw.socket"):
        done = root.execute("systemd-analyze", "verify", unit)
        complaints = [line for line in done.stderr.splitlines() if "wsgw" in line]
        assert not complaints, complaints
    # The command of the unit, as its user and with its directories.
    user = ("setpriv", "--reuid=wsgw", "--regid=wsgw", "--init-groups")
    root.run("install", "-d", "-o", "wsgw", "-g", "wsgw", "-m", "700", "/var/lib/wsgw", "/var/log/wsgw")
    command = re.search(r"^ExecStart=(.*)$", UNIT, re.M)[1].split()
    serve = root.start(*user, "env", "STATE_DIRECTORY=/var/lib/wsgw", "XDG_STATE_HOME=", *command)
    try:
        # root finds its control port, as the unit's comment says.
        assert root.run("wsgw", "send", "--retry", "20", "hi") == "delivered 0\n"
        assert "running" in root.run("wsgw", "status", "chat")
        reload = re.search(r"^ExecReload=(.*)$", UNIT, re.M)[1].split()
        root.run(*reload)
        assert "running" in root.run("cat", "/var/log/wsgw/WebSocket.log")
    finally:
        assert root.stop(serve) == 0


def test_the_deb(package, scratch):
    for program in ("dpkg", "man", "systemd-sysusers", "systemd-analyze", "setpriv"):
        tool(program)
    file = scratch.bring(package("deb"))
    scratch.run("dpkg", "-i", file)
    for path in [*INSTALLED, "/usr/share/zsh/vendor-completions/_wsgw"]:
        assert scratch.has(path), path
    use(scratch)
    # An upgrade keeps the operator's config.
    scratch.run("sh", "-c", "echo '# mine' >>/etc/wsgw/wsgw.toml")
    scratch.run("dpkg", "-i", file)
    assert scratch.run("tail", "-n1", "/etc/wsgw/wsgw.toml") == "# mine\n"
    scratch.run("dpkg", "-r", "wsgw")
    assert not scratch.has("/usr/bin/wsgw") and not scratch.has("/usr/share/man/man1/wsgw.1.gz")
    assert scratch.has("/etc/wsgw/wsgw.toml") and scratch.has("/var/log/wsgw/WebSocket.log")
    scratch.run("dpkg", "-P", "wsgw")
    for path in ("/etc/wsgw", "/var/lib/wsgw", "/var/log/wsgw", "/usr/share/doc/wsgw"):
        assert not scratch.has(path), path


def test_the_rpm(package, scratch):
    for program in ("rpm", "systemd-sysusers", "setpriv"):
        tool(program)
    file = scratch.bring(package("rpm"))
    # Its database knows nothing of this machine's libraries.
    scratch.run("rpm", "-i", "--nodeps", file)
    for path in [*INSTALLED, "/usr/share/zsh/site-functions/_wsgw",
                 "/usr/share/licenses/wsgw/LICENSE-MIT"]:
        assert scratch.has(path), path
    use(scratch)
    scratch.run("sh", "-c", "echo '# mine' >>/etc/wsgw/wsgw.toml")
    scratch.run("rpm", "-e", "--nodeps", "wsgw")
    assert not scratch.has("/usr/bin/wsgw") and not scratch.has("/etc/wsgw/wsgw.toml")
    assert scratch.has("/etc/wsgw/wsgw.toml.rpmsave")


def test_what_the_packages_say_of_themselves(package):
    fields = subprocess.run([tool("dpkg-deb"), "-f", package("deb")], capture_output=True, text=True,
                            check=True).stdout
    assert re.search(r"^Depends: .*libc6 \(>= ", fields, re.M), fields
    query = "%{NAME} %{LICENSE} %{SUMMARY}"
    said = subprocess.run([tool("rpm"), "-qp", "--qf", query, package("rpm")], capture_output=True,
                          text=True, check=True).stdout
    assert said == "wsgw MIT OR Apache-2.0 WebSocket gateway for programs that read and write lines"


# The units.


def test_the_unit_starts_what_the_program_takes(tmp_path):
    args = re.search(r"^ExecStart=(.*)$", UNIT, re.M)[1].split()[1:]
    args[args.index("--config") + 1] = "/no/such/file.toml"
    done = run_cli(tmp_path, *args)
    # Usage errors would be exit 2 before anything else.
    assert "unexpected argument" not in done.stderr and "/no/such/file.toml" in done.stderr
    known = run_cli(tmp_path, "serve", "--help").stdout
    for flag in (word for word in args if word.startswith("--")):
        assert flag in known
    for key in ("Type=notify", "KillMode=mixed", "StateDirectory=wsgw", "TimeoutStopSec=15"):
        assert key in UNIT


def test_the_units_are_good(tmp_path):
    analyze = tool("systemd-analyze")
    files = []
    for name in ("wsgw.service", "wsgw.socket"):
        files.append(tmp_path / name)
        text = (PACKAGING / name).read_text().replace("/usr/bin/wsgw", WSGW)
        # The pages are there once the package is.
        files[-1].write_text(re.sub(r"^Documentation=.*\n", "", text, flags=re.M))
    done = subprocess.run([analyze, "verify", *files], capture_output=True, text=True, timeout=60)
    complaints = [line for line in done.stderr.splitlines() if "wsgw" in line]
    assert not complaints, complaints


def test_the_unit_is_a_sandbox():
    """At most 2.0 of 10 points of exposure."""
    done = subprocess.run([tool("systemd-analyze"), "security", "--offline=true", "--threshold=20",
                           PACKAGING / "wsgw.service"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout[-500:]


def test_the_config_of_the_package_is_good(tmp_path):
    text = (PACKAGING / "wsgw.toml").read_text()
    config = tmp_path / "c.toml"
    config.write_text(re.sub(r"port = \d+", "port = 0", text.replace("#listener", "listener")))
    # The file is read before the flag is found wrong.
    done = run_cli(tmp_path, "serve", "--config", config, "--control", "nowhere")
    assert "--control" in done.stderr, done.stderr


# The man pages.


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    directory = tmp_path_factory.mktemp("man")
    done = run_cli(directory, "man", directory / "pages")
    assert (done.returncode, done.stdout) == (0, "")
    return directory / "pages"


def test_each_command_has_a_page(pages, tmp_path):
    assert {page.name for page in pages.iterdir()} == {
        "wsgw.1", *(f"wsgw-{name}.1" for name in COMMANDS)}
    assert run_cli(tmp_path, "man").stdout == (pages / "wsgw.1").read_text()


def test_the_pages_are_without_errors(pages):
    """There is no date, for nothing in the source has one."""
    for page in sorted(pages.iterdir()):
        done = subprocess.run([tool("mandoc"), "-T", "lint", "-W", "warning", page],
                              capture_output=True, text=True)
        complaints = [line for line in done.stdout.splitlines() if "missing date" not in line]
        assert not complaints, complaints


def test_man_shows_the_pages(pages, tmp_path):
    env = {**os.environ, "MANWIDTH": "100", "MAN_KEEP_FORMATTING": "", "LC_ALL": "C.UTF-8"}
    for page in pages.iterdir():
        done = subprocess.run([tool("man"), "-l", page], capture_output=True, text=True, env=env)
        assert (done.returncode, done.stderr) == (0, ""), page
        title = page.stem.upper()
        assert done.stdout.startswith(f"{title}(1)"), done.stdout[:200]
        if page.stem == "wsgw":
            continue
        command = page.stem.removeprefix("wsgw-")
        known = set(re.findall(r"(?<=\s)--[a-z][a-z-]*", run_cli(tmp_path, command, "--help").stdout))
        assert known <= set(re.findall(r"--[a-z][a-z-]*", done.stdout)), command


def test_a_directory_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    done = run_cli(tmp_path, "man", tmp_path / "file" / "man")
    assert done.returncode == 1 and "cannot be written" in done.stderr


def test_the_packaged_pages_are_those(package, pages, tmp_path):
    subprocess.run([tool("dpkg-deb"), "-x", package("deb"), tmp_path], check=True)
    for page in pages.iterdir():
        packed = gzip.decompress((tmp_path / f"usr/share/man/man1/{page.name}.gz").read_bytes())
        assert packed == page.read_bytes(), page.name
