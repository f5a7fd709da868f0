"""What the listener writes about a connection right behind the answer that accepts it."""

import json
import sys

import pytest

LISTENER = """
import json, sys
for line in sys.stdin:
    event = json.loads(line)
    if event["event"] == "onHandshake":
        conn = event["conn"]
        lines = [{"id": event["id"]},
                 {"command": "join", "conn": conn, "channel": ["a", "b"], "ref": 1},
                 {"command": "leave", "conn": conn, "channel": ["b", "url"]},
                 {"command": "send", "connections": [conn], "message": "direct"},
                 {"command": "send", "channel": "a", "except": [], "message": "to a " + conn},
                 {"command": "send", "channel": "b", "message": "to b"}]
    elif event["event"] == "onMessage":
        lines = [{"id": event["id"], "connections": [event["conn"]],
                  "message": json.dumps(event.get("channels", []))}]
    elif event["event"] == "onResult":
        lines = [{"command": "send", "message": "result " + json.dumps(event)}]
    else:
        continue
    print("\\n".join(map(json.dumps, lines)), flush=True)
"""


@pytest.mark.parametrize("more", [(), ("--history", "10")])
def test_a_join_behind_the_acceptance_counts(serve, tmp_path, more):
    script = tmp_path / "listener.py"
    script.write_text(LISTENER)
    server = serve("--hooks", "onHandshake,onMessage", "--channels", "query", *more,
                   listener=[sys.executable, "-u", script])
    client = server.connect("/?channel=url")
    assert client.recv() == "direct"
    assert client.recv() == "to a k1"
    result = json.loads(client.recv().removeprefix("result "))
    assert result == {"event": "onResult", "ref": 1, "joined": ["a", "b"]}
    client.send("where am I?")
    assert json.loads(client.recv()) == ["a"]
    assert server.metric("wsgw_recipients_gone_total") == 0
