"""The commands that the pages show for channels, streams and plain lines, exactly as they are printed.

They use the default ports, so each `serve` runs in a network of its own.
"""

import contextlib
import os
import re
import shlex
import shutil
import signal
import subprocess
from pathlib import Path

import pytest
from harness import ROOT, WSGW, private_env, tool

PAGES = ["README.md", "docs/channels.md", "docs/streams.md", "docs/websocketd.md", "examples/README.md"]
# A comment behind a command says what it prints.
PRINTS = re.compile(r"\s+# prints: (.*)$")
FOREVER = ", until Ctrl-C"


def scenes(page):
    """Each `wsgw serve` that a page shows, and the commands that follow it in the same section."""
    for section in re.split(r"^## ", (ROOT / page).read_text(), flags=re.M):
        server, commands = None, []
        for block in re.findall(r"```sh\n(.*?)```", section, re.S):
            lines = block.strip().splitlines()
            if lines[0].startswith("wsgw serve"):
                if server:
                    yield server, commands
                (server,), commands = lines, []
            elif server:
                commands += lines
        if server:
            yield server, commands


def stand_ins(directory):
    """Replaces programs that have nothing to show on this machine. Returns where the others are."""
    shown = shutil.which("journalctl") and subprocess.run(
        ["journalctl", "-q", "-n", "1"], capture_output=True, text=True).stdout
    directory.mkdir()
    if not shown:
        journalctl = directory / "journalctl"
        journalctl.write_text("#!/bin/sh\n"
                              "while :; do echo 'Nov 27 15:00:00 host cron[1]: ran'; sleep 0.2; done\n")
        journalctl.chmod(0o755)
    return directory


SCENES = [pytest.param(page, *scene, id=f"{page}-{n}")
          for page in PAGES for n, scene in enumerate(scenes(page))]


def test_scenes_are_found():
    assert len(SCENES) >= 8
    assert sum(len(scene.values[2]) for scene in SCENES) >= 15


@pytest.mark.parametrize(("page", "server", "commands"), SCENES)
def test_the_commands_work_as_they_are_printed(tmp_path, page, server, commands):
    for name in ("unshare", "ip", "jq", "python3", "uptime", "sqlite3", "vmstat", "curl"):
        tool(name)
    script = [
        "ip link set lo up",
        f"{server} >{tmp_path}/serve 2>&1 &",
        "serve=$!",
        "until wsgw status 2>/dev/null | grep -q running; do kill -0 $serve || exit 99; sleep 0.02; done",
    ]
    expected = []
    for n, line in enumerate(commands):
        found = PRINTS.search(line)
        text = found[1] if found else ""
        command = shlex.quote(PRINTS.sub("", line))
        out = tmp_path / f"out{n}"
        if text.endswith(FOREVER):
            text = text.removesuffix(FOREVER)
            script += [
                f"setsid bash -c {command} </dev/null >{out} & forever=$!",
                f"until grep -qF {shlex.quote(text)} {out}; do kill -0 $forever || exit 98; sleep 0.02; done",
                "kill -INT -- -$forever; kill -TERM -- -$forever; wait $forever",
            ]
        else:
            script.append(f"bash -c {command} >{out} || exit {n + 1}")
        expected.append((line, out, text))
    script += ["kill $serve", "wait $serve"]
    # An example may write beside its config file.
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    env = private_env(tmp_path)
    env["PATH"] = f"{Path(WSGW).resolve().parent}:{stand_ins(tmp_path / 'bin')}:{env['PATH']}"
    # Root needs no user namespace, which some machines do not allow.
    namespaces = "-n" if os.geteuid() == 0 else "-rn"
    run = subprocess.Popen(["unshare", namespaces, "bash", "-c", "\n".join(script)], env=env, cwd=tmp_path,
                           stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                           text=True, start_new_session=True)
    try:
        _, err = run.communicate(timeout=120)
    finally:
        # What fails half-way leaves no `serve` behind.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(run.pid, signal.SIGKILL)
    log = tmp_path / "serve"
    assert run.returncode == 0, (
        run.returncode, err, log.exists() and log.read_text())
    assert " WARN " not in log.read_text()
    for line, out, text in expected:
        assert text in out.read_text(), (line, out.read_text())
