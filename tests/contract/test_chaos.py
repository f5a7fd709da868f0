"""A short run of the chaos test; `tests/chaos/chaos.py` runs it for longer by hand."""

import os
import subprocess
import sys

import pytest

from harness import ROOT, WSGW


@pytest.mark.parametrize("seed", [1])
def test_chaos(seed, tmp_path):
    done = subprocess.run(
        [sys.executable, ROOT / "tests/chaos/chaos.py", "--seed", str(seed), "--seconds", "8"],
        env={**os.environ, "WSGW_BIN": WSGW, "TMPDIR": str(tmp_path)},
        capture_output=True, text=True, timeout=240,
    )
    assert done.returncode == 0, done.stdout + done.stderr
