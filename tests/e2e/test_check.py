"""`wsgw check`: listeners of every bad kind, and what is said of them. What is said must be enough to
mend them."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest

from harness import HERE, ROOT, WSGW, alive, private_env, run_cli, tool, wait_until

BAD = [sys.executable, "-u", str(HERE / "bad_listeners.py")]


def check(tmp_path, *listener, flags=("--listener-timeout", "500ms"), **options):
    """The report on a listener, and the exit code."""
    done = run_cli(tmp_path, "check", "--json", *flags, "--", *listener, **options)
    assert done.returncode in (0, 1, 5), done
    report = json.loads(done.stdout)
    report["exit"] = done.returncode
    report["ids"] = [finding["id"] for finding in report["findings"]]
    return report


def bad(tmp_path, kind, **options):
    return check(tmp_path, *BAD, kind, **options)


def step(report, name):
    [found] = [step for step in report["steps"] if step["step"] == name]
    return found


# ---- good ones ---------------------------------------------------------------------------------

GOOD = {
    "cat": ["cat"],
    "python": [sys.executable, str(ROOT / "examples/upper.py")],
    "chat": [sys.executable, str(ROOT / "examples/chat/chat.py")],
    "bash": ["bash", str(ROOT / "examples/upper.sh")],
    "nobody": [*BAD, "chooses_nobody"],
}


@pytest.mark.parametrize("listener", GOOD.values(), ids=GOOD)
def test_a_good_listener_is_clean(tmp_path, listener):
    report = check(tmp_path, *listener, flags=())
    assert report["findings"] == [] and report["exit"] == 0, report
    assert [step["step"] for step in report["steps"]] == [
        "start", "open", "text", "unicode", "empty", "binary", "push", "burst", "close", "eof", "sigterm"]
    assert {step["outcome"] for step in report["steps"]} == {"good"}
    assert report["stderr"] == []


def test_jq_and_node_are_clean(tmp_path):
    for listener in (["jq", "-c", "--unbuffered", ".message |= ascii_upcase"],
                     [tool("node"), str(ROOT / "examples/upper.js")]):
        assert check(tmp_path, *listener, flags=())["ids"] == []


def test_it_says_what_the_gateway_would_do(tmp_path):
    report = check(tmp_path, "cat")
    assert "sent on unchanged to all 2 clients" in step(report, "text")["gateway"]
    assert "delivered 2" in step(report, "push")["gateway"]
    assert "300 of 300" in step(report, "burst")["gateway"]
    report = check(tmp_path, "jq", "-c", "--unbuffered", ".message |= ascii_upcase", flags=["--route", "others"])
    assert re.search('sends "HELLO FROM WSGW CHECK" to 1 of 2 clients', step(report, "text")["gateway"])
    report = bad(tmp_path, "chooses_nobody")
    assert "sent to nobody" in step(report, "text")["gateway"] and report["exit"] == 0


def test_text_for_a_person(tmp_path):
    done = run_cli(tmp_path, "check", "--", "cat")
    assert done.returncode == 0 and done.stderr == "", done
    assert re.search(r"^ok   text +answered in .*", done.stdout, re.M)
    assert done.stdout.endswith("\nclean: nothing to mend\n")
    done = run_cli(tmp_path, "check", "--", *BAD, "stray_prints")
    assert done.returncode == 1 and "1 finding" in done.stdout
    assert re.search(r"^error .*not JSON", done.stdout, re.M) and re.search(r"^    mend ", done.stdout, re.M)
    assert all(len(line) <= 100 for line in done.stdout.splitlines())


# ---- bad ones ----------------------------------------------------------------------------------

def test_python_that_holds_its_output_back(tmp_path):
    report = bad(tmp_path, "block_buffered")
    assert report["ids"] == ["buffered"] and report["exit"] == 1, report
    mend = report["findings"][0]["mend"]
    assert "flush=True" in mend and "python3 -u" in mend


def test_c_that_holds_its_output_back(tmp_path):
    (tmp_path / "echo.c").write_text(
        '#include <stdio.h>\n'
        'int main(void) { char line[65536]; while (fgets(line, sizeof line, stdin)) fputs(line, stdout); }\n')
    subprocess.run(["gcc", "-o", tmp_path / "echo", tmp_path / "echo.c"], check=True)
    report = check(tmp_path, "./echo")
    assert report["ids"] == ["buffered"], report
    mend = report["findings"][0]["mend"]
    assert "setvbuf(stdout" in mend and "stdbuf -oL ./echo" in mend
    # What is proposed is the cure.
    assert check(tmp_path, "stdbuf", "-oL", "./echo")["ids"] == []


@pytest.mark.parametrize("awk, part, cure", [
    ("mawk", "mawk -W interactive", ["mawk", "-W", "interactive", "{print}"]),
    ("sed", "sed -u", ["sed", "-u", ""]),
    ("grep", "grep --line-buffered", ["grep", "--line-buffered", "id"]),
    ("jq", "jq --unbuffered", ["jq", "-c", "--unbuffered", "."]),
])
def test_tools_that_hold_their_output_back(tmp_path, awk, part, cure):
    command = {"mawk": ["mawk", "{print}"], "sed": ["sed", ""], "grep": ["grep", "id"], "jq": ["jq", "-c", "."]}
    report = check(tmp_path, *command[awk])
    assert report["ids"] == ["buffered"] and part in report["findings"][0]["mend"], report
    assert check(tmp_path, *cure)["ids"] == []
    in_shell = " ".join(f"'{word}'" if word in ("{print}", "", ".") else word for word in command[awk])
    report = check(tmp_path, "sh", "-c", f"{in_shell} | cat")
    assert report["ids"] == ["buffered"] and part in report["findings"][0]["mend"], report


def test_awk_is_known_by_the_program_behind_its_name(tmp_path):
    mend = check(tmp_path, "awk", "{print}")["findings"][0]["mend"]
    real = os.path.realpath(tool("awk"))
    assert ("-W interactive" if real.endswith("mawk") else "fflush()") in mend


def test_a_program_that_reads_to_the_end_first(tmp_path):
    report = check(tmp_path, "sort")
    assert report["ids"] == ["buffered"] and "reads to the end" in report["findings"][0]["message"], report


# Kind, finding, parts of its message, parts of its mend.
KINDS = [
    ("stray_prints", "stray_output", ["got a message"], ["file=sys.stderr"]),
    ("startup_banner", "stray_output", ["Chat listener 1.0 ready"], ["file=sys.stderr"]),
    ("several_lines", "json_over_lines", ["over several lines"], ["without indent"]),
    ("several_objects", "json_joined", ["several JSON objects"], ["newline"]),
    ("python_dictionary", "not_json", ["{'id'"], ["json.dumps(answer)"]),
    ("wrong_ids", "unknown_id", ["no event had"], ["Copy the id"]),
    ("ids_as_strings", "id_not_number", ["not a whole number", '"id": "'], ['"id":3 and not "id":"3"']),
    ("no_ids", "no_id", ["neither an id nor a command"], ["Copy the key id", '"command":"send"']),
    ("strings_for_lists", "wrong_type", ['"connections" is not an array', '"connections": "k1"', "sent to nobody"],
     ['"connections":["k1"]', "null is not a list"]),
    ("unknown_recipient", "unknown_recipient", ['"alice"'], ["key conn"]),
    ("twice", "answered_twice", ["twice", "first answer counts"], ["one answer for each event"]),
    ("wrong_command", "wrong_command", ['unknown command "broadcast"'], ['"command":"send"']),
    ("reads_chunks", "exits", ["Extra data"], ["split what comes at newlines"]),
    ("prompts", "stray_output", ['"> {'], ["stderr"]),
    ("late", "late", ["too late", "500 ms (listener-timeout)"], ["--listener-timeout"]),
    ("forgets", "no_answer", ["30 of 305 events", "drops such a message"], ['"connections":[]']),
    ("answers_nothing", "no_answer", ["none of 305 events"], ['{"id":3}']),
    ("does_not_read", "does_not_read", ["does not read"], ["line by line", "--hooks none"]),
    ("ignores_eof", "stays_after_eof", ["4 s after its stdin had ended"], ["for line in sys.stdin"]),
    ("leaves_a_child", "children_left", ["sleep (pid "], ["process.terminate()"]),
    ("dies_on_unicode", "exits", ["beyond ASCII", "UnicodeEncodeError"], ["PYTHONUTF8=1", "utf-8"]),
    ("damages_unicode", "unicode", ["do not survive", "GrÃ"], ["utf-8"]),
    ("dies_on_empty", "exits", ["an empty message", "IndexError"], ["may be empty"]),
    ("dies_on_binary", "exits", ["a binary message", "JSONDecodeError"], ["base64"]),
    ("dies_on_push", "exits", ["a push", "AttributeError"], ["conn is null (None)"]),
    ("dies_on_close", "exits", ["onClientClose", "no such user"], ["key event"]),
    ("closes_stdout", "exits", ["closed its stdout"], []),
    ("closes_stdin", "closes_stdin", ["closed its stdin and runs on", "it did not get an onClientOpen"], ["close(0)"]),
    ("byte_order_mark", "byte_order_mark", ["U+FEFF"], ["utf-8-sig"]),
    ("unknown_key", "unknown_key", ['"reply"', "goes out unchanged"], ["in the key message"]),
]


@pytest.mark.parametrize("kind, finding, says, mend", KINDS, ids=[kind[0] for kind in KINDS])
def test_what_is_wrong_is_named_with_its_mend(tmp_path, kind, finding, says, mend):
    report = bad(tmp_path, kind)
    found = [one for one in report["findings"] if one["id"] == finding]
    assert len(found) == 1 and report["exit"] == 1, report
    missing = [part for part in says if part not in found[0]["message"]]
    missing += [part for part in mend if part not in found[0]["mend"]]
    assert not missing, (missing, found)
    assert all(set(one) == {"id", "severity", "message", "mend"} for one in report["findings"])
    assert any(step["outcome"] == "bad" for step in report["steps"])
    also = {
        "prompts": {"no_answer"},
        # Both are true of it.
        "does_not_read": {"stays_after_eof"},
        "closes_stdin": {"stays_after_eof"},
    }
    assert set(report["ids"]) - {finding} <= also.get(kind, set()), report["ids"]


@pytest.mark.parametrize("kind, ids", [
    ("forgets_and_is_long", ["no_answer"]),
    ("single_quotes_and_long", ["not_json"]),
    ("ids_as_strings", ["id_not_number"]),
    ("dies_on_empty_and_is_long", ["exits"]),
])
def test_a_listener_that_flushes_is_not_told_to_flush(tmp_path, kind, ids):
    """However many bytes come at once, and whatever is missing."""
    report = bad(tmp_path, kind)
    assert set(report["ids"]) == set(ids), report


def test_one_late_answer_is_one(tmp_path):
    """The first one takes long, since something is opened for it; what follows is in time."""
    report = bad(tmp_path, "slow_first_answer", flags=["--listener-timeout", "800ms"])
    assert report["ids"] == ["late"] and "1 answer came too late" in report["findings"][0]["message"], report
    assert [step["step"] for step in report["steps"] if step["outcome"] == "bad"] == ["text"]


def test_two_newlines_are_two_messages(tmp_path):
    """What a newcomer writes first: print() adds a newline to a line that has one."""
    script = "import sys\nfor line in sys.stdin: print(line{}, flush=True)"
    report = check(tmp_path, sys.executable, "-c", script.format(""), flags=["--plain"])
    assert report["ids"] == ["empty_lines"], report
    assert 'print(line, end=""' in report["findings"][0]["mend"]
    cure = script.format(", end=''")
    assert check(tmp_path, sys.executable, "-c", cure, flags=["--plain"])["ids"] == []


def test_a_bad_step_says_why(tmp_path):
    """Also where all that is wrong with it is a line."""
    for kind in ("startup_banner", "stray_prints", "twice"):
        report = bad(tmp_path, kind)
        wrong = [step for step in report["steps"] if step["outcome"] == "bad"]
        assert wrong and all("is at fault" in step["gateway"] for step in wrong), report


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_check_and_the_listener_with_its_group(tmp_path, number):
    script = 'sleep 1000 & echo $$ $! > pids; while read -r line; do sleep 1; echo "$line"; done'
    command = [WSGW, "check", "--", "sh", "-c", script]
    with subprocess.Popen(command, cwd=tmp_path, env=private_env(tmp_path), stdout=subprocess.PIPE) as running:
        pids = wait_until(lambda: (tmp_path / "pids").exists() and (tmp_path / "pids").read_text().split(), "its pids")
        running.send_signal(number)
        assert running.wait(10) == 128 + number
    for pid in pids:
        wait_until(lambda: not alive(int(pid)), f"the end of process {pid}")


def test_a_line_that_sigterm_cut_is_no_fault(tmp_path):
    line = '{"command":"members","channel":"a","ref":1}'
    report = check(tmp_path, "yes", line, flags=["--listener-timeout", "300ms"], timeout=60)
    assert "not_json" not in report["ids"] and "json_over_lines" not in report["ids"], report


def test_the_environment_is_that_of_serve(tmp_path):
    script = "test -n \"$WSGW_CONTROL\" && test \"$WSGW_GATEWAY\" = default && exec cat"
    report = check(tmp_path, "sh", "-c", script, flags=[])
    assert report["ids"] == [] and report["exit"] == 0, report
    report = check(tmp_path, "sh", "-c", f"test \"$WSGW_CONTROL\" = http://127.0.0.1:4711 && {script}",
                   flags=["--control", "127.0.0.1:4711"])
    assert report["exit"] == 0, report


def test_a_slow_listener(tmp_path):
    report = bad(tmp_path, "slow", flags=())
    assert report["ids"] == ["slow"] and report["findings"][0]["severity"] == "warning", report
    assert "messages a second" in report["findings"][0]["message"]
    assert "in threads" in report["findings"][0]["mend"] and "any order" in report["findings"][0]["mend"]
    assert "not waited for" in step(report, "burst")["gateway"]


def test_a_greeting_that_goes_to_nobody_is_no_finding(tmp_path):
    report = bad(tmp_path, "greets")
    assert report["ids"] == [] and "to greet, write a command" in step(report, "open")["gateway"], report
    assert "to greet" not in step(check(tmp_path, "cat"), "open")["gateway"]


def test_a_dead_listener_is_started_again_and_the_steps_go_on(tmp_path):
    report = bad(tmp_path, "dies_on_unicode")
    assert step(report, "unicode")["outcome"] == "bad" and "start it again" in step(report, "unicode")["gateway"]
    for name in ("text", "empty", "binary", "push", "burst", "close", "eof", "sigterm"):
        assert step(report, name)["outcome"] == "good", report
    assert any("UnicodeEncodeError" in line for line in report["stderr"])


def test_one_that_ends_after_each_event(tmp_path):
    report = bad(tmp_path, "one_event_and_out")
    assert report["ids"] == ["exits"], report
    assert "loop over the lines of stdin" in report["findings"][0]["mend"]


def test_one_that_heeds_nothing_is_killed(tmp_path):
    report = bad(tmp_path, "ignores_everything")
    assert report["ids"] == ["stays_after_eof", "ignores_sigterm"], report
    assert "SIGKILL" in step(report, "eof")["gateway"]


def test_a_child_of_its_own_session_is_seen(tmp_path):
    note = tmp_path / "children"
    try:
        report = bad(tmp_path, "child_of_its_own_session", env={"CHILDREN": str(note)})
        assert report["ids"] == ["children_escaped"], report
        assert note.read_text().split()[0] in report["findings"][0]["message"]
        assert "setsid" in report["findings"][0]["mend"]
    finally:
        for pid in map(int, note.read_text().split()):
            if alive(pid):
                os.kill(pid, signal.SIGKILL)


def test_nothing_is_left_of_what_was_checked(tmp_path):
    report = bad(tmp_path, "leaves_a_child")
    pid = int(re.search(r"pid (\d+)", report["findings"][0]["message"])[1])
    assert not alive(pid)


# ---- handshakes, producers, plain lines ----------------------------------------------------------

HANDSHAKE = ["--hooks", "onHandshake,onClientOpen,onMessage,onClientClose", "--listener-timeout", "500ms"]


def test_a_handshake_is_played(tmp_path):
    report = check(tmp_path, "cat", flags=HANDSHAKE)
    assert report["ids"] == [] and "accepted" in step(report, "handshake")["gateway"], report
    report = bad(tmp_path, "wrong_handshake", flags=HANDSHAKE)
    assert report["ids"] == ["wrong_type"], report
    assert '"reject" is not a status' in report["findings"][0]["message"]
    assert "refused with 500" in report["findings"][0]["message"]
    assert '"reject":401' in report["findings"][0]["mend"]


def test_a_client_that_is_refused_can_be_given_what_it_needs(tmp_path):
    report = bad(tmp_path, "refuses", flags=HANDSHAKE)
    assert report["ids"] == [] and report["exit"] == 0, report
    assert "401 (no token)" in step(report, "handshake")["gateway"]
    assert step(report, "text")["outcome"] == "skipped" and "--url" in step(report, "text")["gateway"]
    assert step(report, "push")["outcome"] == "good"
    report = bad(tmp_path, "refuses", flags=[*HANDSHAKE, "--url", "/chat?token=1"])
    assert step(report, "text")["outcome"] == "good", report


def test_the_request_of_the_clients(tmp_path):
    keep = tmp_path / "seen"
    listener = ["sh", "-c", f"tee -a {keep}"]
    check(tmp_path, *listener, flags=["--url", "/a/b?c=1", "-H", "Cookie: d=2", "-H", "Accept: x"])
    opened = json.loads(keep.read_text().splitlines()[0])
    assert (opened["path"], opened["query"], opened["headers"]["cookie"]) == ("/a/b", "c=1", "d=2")
    # Only those that the gateway would tell.
    assert "accept" not in opened["headers"]


def test_a_producer_is_watched(tmp_path):
    report = check(tmp_path, "sh", "-c", """while echo '{"command":"send","message":"tick"}'; do sleep 0.2; done""",
                   flags=["--hooks", "none"])
    assert report["ids"] == [] and 'sends "tick" to all 2 clients' in step(report, "text")["gateway"], report
    assert step(report, "eof")["outcome"] == "skipped"


def test_plain_lines(tmp_path):
    report = check(tmp_path, "sed", "-u", "s/^/x: /", flags=["--plain"])
    assert report["ids"] == [], report
    assert 'sends "x: Hello from wsgw check" to all 2 clients' in step(report, "text")["gateway"]
    assert "dropped" in step(report, "binary")["gateway"]
    report = check(tmp_path, "sed", "s/^/x: /", flags=["--plain"])
    assert report["ids"] == ["buffered"] and "sed -u" in report["findings"][0]["mend"], report
    report = check(tmp_path, "tail", "-f", "/dev/null", flags=["--plain", "--listener-timeout", "300ms"])
    assert report["ids"] == ["stays_after_eof", "does_not_read"], report
    assert "--hooks none" in report["findings"][1]["mend"]


def test_plain_lines_are_proposed_to_one_that_does_not_know_json(tmp_path):
    report = check(tmp_path, "sed", "-u", "s/.*/you said so/")
    found = [one for one in report["findings"] if one["id"] == "stray_output"]
    assert found and "--plain" in found[0]["mend"], report
    assert "--plain" not in bad(tmp_path, "stray_prints")["findings"][0]["mend"]


@pytest.mark.parametrize("flags", [[], ["--hooks", "none"], ["--plain"]])
@pytest.mark.parametrize("line", ["y", '{"command":"send","message":"x"}'])
def test_a_flood_is_outlasted(tmp_path, flags, line):
    report = check(tmp_path, "yes", line, flags=["--listener-timeout", "300ms", *flags], timeout=60)
    assert step(report, "sigterm")["outcome"] != "skipped" and report["exit"] in (0, 1)


def test_results_of_commands_come_back(tmp_path):
    script = ("import sys, json\n"
              "print(json.dumps({'command': 'send', 'message': 'x', 'ref': 1}), flush=True)\n"
              "for line in sys.stdin:\n"
              "    event = json.loads(line)\n"
              "    if event['event'] == 'onResult': ref = event['ref']\n"
              "    elif event['event'] == 'onMessage': print(json.dumps({'id': event['id'], 'message': ref}), flush=True)\n")
    report = check(tmp_path, sys.executable, "-c", script)
    assert report["ids"] == [] and 'sends "1"' in step(report, "text")["gateway"], report


# ---- what does not start, and wrong use ----------------------------------------------------------

@pytest.mark.parametrize("listener, part", [
    (["no-such-program"], "in PATH"),
    (["./plain.txt"], "chmod +x"),
    ([sys.executable, "no-such-file.py"], "no-such-file.py"),
    (["sh", "-c", "echo boom >&2; exit 3"], "boom"),
])
def test_what_does_not_start(tmp_path, listener, part):
    (tmp_path / "plain.txt").write_text("cat")
    report = check(tmp_path, *listener)
    assert report["exit"] == 5 and report["ids"] == ["does_not_start"], report
    assert part in report["findings"][0]["message"]


@pytest.mark.parametrize("args, part", [
    ([], "wsgw check -- python3 chat.py"),
    (["cat"], "wsgw check -- cat"),
    (["--url", "chat", "--", "cat"], "--url"),
    (["-H", "x", "--", "cat"], "NAME: VALUE"),
    (["--max-line", "1", "--", "cat"], "max-line"),
    (["--config", "no-such-file"], "no-such-file"),
])
def test_wrong_use(tmp_path, args, part):
    done = run_cli(tmp_path, "check", *args)
    assert done.returncode == 2 and part in done.stderr and done.stdout == "", done


def test_the_listener_of_a_config_file(tmp_path):
    file = tmp_path / "wsgw.toml"
    file.write_text('[gateways.a]\nlistener = ["cat"]\n[gateways.b]\nlistener = "no-such-program-at-all"\n')
    done = run_cli(tmp_path, "check", "--config", file)
    assert done.returncode == 2 and "a, b" in done.stderr and "--id" in done.stderr, done
    assert run_cli(tmp_path, "check", "--config", file, "--id", "a").returncode == 0
    done = run_cli(tmp_path, "check", "--config", file, "--id", "b")
    assert done.returncode == 5 and "no-such-program-at-all" in done.stdout, done


def test_it_takes_no_time_with_a_good_listener(tmp_path):
    began = time.monotonic()
    check(tmp_path, "cat", flags=())
    assert time.monotonic() - began < 5
