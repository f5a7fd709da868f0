"""What the commands print on stdout: output that is lost is an error, a reader that left is not."""

import os
import subprocess

import pytest

import harness

PRINTED_ALONE = [
    ("--help",), ("--version",), ("help",), ("help", "send"), ("serve", "--help"), ("-h",), ("-V",),
    ("completions", "bash"), ("completions", "zsh"), ("completions", "fish"),
]
PRINTED_BY_A_SERVE = [
    ("status",), ("status", "--json"), ("status", "default"), ("connections",),
    ("connections", "--json"), ("connections", "default", "--json"), ("start", "default"),
    ("restart", "default", "--json"), ("reload",), ("reload", "--json"), ("send", "hello"),
    ("send", "--json", "hello"), ("send", "--lines"), ("send", "--lines", "--json"),
    ("stop", "default"),
]


def run(directory, args, stdout, env=None):
    env = {**harness.private_env(directory), **(env or {})}
    return subprocess.run([harness.WSGW, *args], input=b"line\n",
                          stdout=stdout, stderr=subprocess.PIPE, env=env, timeout=60)


def reader_that_left():
    """The writing end of a pipe that nobody reads."""
    reading, writing = os.pipe()
    os.close(reading)
    return writing


def check(directory, args, env=None):
    with open("/dev/full", "wb") as full:
        done = run(directory, args, full, env)
    assert done.returncode == 1, (args, done.stderr)
    assert b"cannot write to stdout: No space left on device" in done.stderr, args
    writing = reader_that_left()
    try:
        done = run(directory, args, writing, env)
    finally:
        os.close(writing)
    assert (done.returncode, done.stderr) == (0, b""), args


@pytest.mark.parametrize("args", PRINTED_ALONE, ids=" ".join)
def test_help_and_completions_into_a_full_disk_fail(tmp_path, args):
    check(tmp_path, args)


def test_answers_of_a_serve_into_a_full_disk_fail(serve, tmp_path):
    server = serve()
    env = {"WSGW_CONTROL": server.control_url, "WSGW_TOKEN": server.token}
    for args in PRINTED_BY_A_SERVE:
        check(tmp_path, args, env)


def test_a_closed_stdout_is_as_good_as_dev_null(tmp_path):
    for args in PRINTED_ALONE:
        done = subprocess.run(["sh", "-c", '"$0" "$@" >&-', harness.WSGW, *args],
                              stderr=subprocess.PIPE, env=harness.private_env(tmp_path), timeout=60)
        assert (done.returncode, done.stderr) == (0, b""), args


def test_a_usage_error_stays_one_wherever_it_is_written(tmp_path):
    with open("/dev/full", "wb") as full:
        done = subprocess.run([harness.WSGW, "send", "--no-such-flag"], stdout=full, stderr=full,
                              env=harness.private_env(tmp_path), timeout=60)
    assert done.returncode == 2
