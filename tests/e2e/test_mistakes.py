"""What a new user gets wrong, and what is said then: what happened, to what, what to do; once."""

import re

import pytest

from harness import run_cli, wait_until


def serve_fails(tmp_path, *args):
    done = run_cli(tmp_path, "serve", "--port", "0", "--control", "off", *args, timeout=20)
    assert done.stdout == ""
    return done.returncode, done.stderr


@pytest.mark.parametrize("words", [["cat"], ["python3", "-u", "chat.py"], ["--route", "all", "cat"]])
def test_a_command_without_the_dashes(tmp_path, words):
    code, said = serve_fails(tmp_path, *words)
    program = words[0] if words[0] != "--route" else "cat"
    assert code == 2 and f"wsgw serve -- {program}" in said, said


def test_a_wrong_flag_is_not_taken_for_a_command(tmp_path):
    code, said = serve_fails(tmp_path, "--bogus")
    assert code == 2 and "--bogus" in said and "listener's command" not in said


def test_a_command_in_quotes(tmp_path):
    code, said = serve_fails(tmp_path, "--", "python3 chat.py")
    assert code == 1 and "(-- python3 chat.py)" in said and '--listener "python3 chat.py"' in said


@pytest.mark.parametrize("quiet", [False, True])
def test_a_listener_that_ends_at_once_is_told_of_once(tmp_path, quiet):
    flags = ["--quiet"] if quiet else []
    code, said = serve_fails(tmp_path, *flags, "--listener", "echo boom >&2; exit 3")
    assert code == 1
    assert said.count("cannot be started") == 1, said
    [at] = [i for i, line in enumerate(said.splitlines()) if "cannot be started" in line]
    # The log has it on one line, a quiet terminal on several.
    shown = said.splitlines()[at:]
    assert "exit status: 3" in shown[0] and "stderr: boom" in shown[int(quiet)], said


def test_a_listener_that_ends_later_is_told_of_with_the_way_back(serve):
    server = serve("--listener", "sleep 0.3; echo boom >&2; exit 3", wait=False)
    server.await_control()
    server.await_log(r"ERROR default the listener cannot be started: ")
    # The log and stderr are written one after the other.
    [said] = wait_until(
        lambda: re.findall(r".*cannot be started.*(?=\n)", server.err()), server.err)
    assert "exit status: 3 | stderr: boom" in said and "`wsgw start default`" in said
    server.await_status(state="failed")


def test_a_reload_with_a_bad_listener_says_who_goes_on(serve):
    server = serve(config='[gateways.chat]\nport = 0\nlistener = ["cat"]\n')
    server.config.write_text('[gateways.chat]\nport = 0\nlistener = "echo boom >&2; exit 3"\n')
    done = server.cli("reload")
    assert done.returncode == 1
    assert done.stderr == (
        "wsgw: gateway chat: the new listener failed: exit status: 3; it goes on as it was\n"
        "  stderr: boom\n"
    )


def test_help_is_a_command_too(tmp_path):
    assert run_cli(tmp_path, "help").stdout == run_cli(tmp_path, "--help").stdout
    assert run_cli(tmp_path, "help", "send").stdout == run_cli(tmp_path, "send", "--help").stdout
