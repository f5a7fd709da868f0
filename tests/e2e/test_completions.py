"""The completions: those that are committed are the program's, and real shells take them."""

import os
import subprocess

import pytest

from harness import ROOT, WSGW, private_env, run_cli, tool

DIRECTORY = ROOT / "shell-completions"


@pytest.mark.parametrize(("shell", "file"), [
    ("bash", "wsgw.bash"), ("zsh", "_wsgw"), ("fish", "wsgw.fish"), ("powershell", "_wsgw.ps1"),
    ("elvish", "wsgw.elv"),
])
def test_what_is_committed_is_what_the_program_prints(tmp_path, shell, file):
    done = run_cli(tmp_path, "completions", shell)
    assert done.returncode == 0
    assert "serve" in done.stdout and "listener-timeout" in done.stdout
    committed = (DIRECTORY / file).read_text()
    assert done.stdout == committed, f"regenerate: wsgw completions {shell} > shell-completions/{file}"


@pytest.fixture
def run(tmp_path):
    """Runs a program with `wsgw` in its PATH."""
    env = {**private_env(tmp_path), "TERM": "dumb",
           "PATH": f"{os.path.dirname(WSGW)}:{os.environ['PATH']}"}

    def run(program, *args):
        return subprocess.run([tool(program), *args], capture_output=True, text=True, env=env,
                              timeout=60)

    return run


@pytest.mark.parametrize(("shell", "file"), [
    ("bash", "wsgw.bash"), ("zsh", "_wsgw"), ("fish", "wsgw.fish")])
def test_shells_can_parse_them(run, shell, file):
    done = run(shell, "-n", DIRECTORY / file)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(("words", "current", "offered"), [
    ("wsgw se", "wsgw se wsgw", ["serve", "send"]),
    ("wsgw send --no", "wsgw --no send", ["--no-hook"]),
])
def test_bash_completes(run, words, current, offered):
    last = len(words.split()) - 1
    done = run("bash", "-c", f"source {DIRECTORY}/wsgw.bash; COMP_WORDS=({words}); "
                             f"COMP_CWORD={last}; _wsgw {current}; echo ${{COMPREPLY[@]}}")
    assert done.stdout.split() == offered, done


def test_zsh_loads_its_function(run, tmp_path):
    done = run("zsh", "-fc", f"fpath=({DIRECTORY} $fpath); autoload -Uz compinit; "
                             f"compinit -u -d {tmp_path}/dump; echo ${{_comps[wsgw]}}; "
                             "autoload +X _wsgw && whence -w _wsgw")
    assert done.stdout.split()[0] == "_wsgw" and "function" in done.stdout, done


def test_fish_completes(run):
    done = run("fish", "--no-config", "-c",
               f"source {DIRECTORY}/wsgw.fish; complete -C 'wsgw se'")
    assert {line.split("\t")[0] for line in done.stdout.splitlines()} == {"serve", "send"}, done
