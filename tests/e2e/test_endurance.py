"""Short runs of the endurance tests; by hand they run for longer."""

import os
import subprocess
import sys

import pytest

from harness import ROOT, WSGW


@pytest.mark.long
@pytest.mark.parametrize("arguments", [
    ["chaos.py", "--seed", "1", "--seconds", "8"],
    ["chaos.py", "--seed", "2", "--seconds", "8", "--tls"],
    ["churn.py", "--seconds", "4", "--crowd", "100"],
    ["endurance.py", "kills", "--seconds", "4", "--rate", "200"],
    ["endurance.py", "stopped", "--seconds", "2"],
    ["endurance.py", "comeback", "--clients", "500"],
    ["resume.py", "--seconds", "6", "--clients", "60", "--rate", "200", "--up", "1"],
    ["resume.py", "--file", "--listener", "--seconds", "6", "--clients", "60", "--rate", "200", "--up", "1",
     "--every", "1"],
], ids=" ".join)
def test_a_short_run(arguments, tmp_path):
    done = subprocess.run(
        [sys.executable, ROOT / "tests/endurance" / arguments[0], *arguments[1:]],
        env={**os.environ, "WSGW_BIN": WSGW, "TMPDIR": str(tmp_path)},
        capture_output=True, text=True, timeout=240,
    )
    assert done.returncode == 0, done.stdout + done.stderr
