"""The config file: its keys, what is said of a wrong one, and the gateways that it names."""

import json

import pytest

from harness import FAKE


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[gateways.a]\nport = 0\nlisteners = ['cat']\n", ("listeners", "3")),
        ("[gateways.a]\nport = 0\n\n\nPort = 1\n", ("Port", "5")),
        ("[defaults]\nroutes = 'all'\n[gateways.a]\nport = 0\n", ("routes", "2")),
        ("[log]\nfile = 'x'\n[gateways.a]\nport = 0\n", ("file", "2")),
        ("[control]\nport = 1\n[gateways.a]\nport = 0\n", ("port", "2")),
        ("[gateway.a]\nport = 0\n", ("gateway", "1")),
        ("[gateways.a\nport = 0\n", ("1",)),
        ("[gateways.a]\nport = 0\nroute = 'some'\n", ("route", "some")),
        ("[gateways.a]\nport = 'x'\n", ("port",)),
        ("[gateways.a]\nport = 0\nlistener-timeout = 'x'\n", ("listener-timeout",)),
        ("[gateways.a]\nport = 0\nmax-message = '1 kilo'\n", ("max-message",)),
        ("[gateways.a]\nport = 0\nlistener = []\n", ("listener",)),
        ("[gateways.a]\nport = 0\nhooks = ['onMassage']\n", ("onMassage",)),
    ],
)
def test_a_wrong_config_names_the_key_and_the_line(serve, text, said):
    server = serve(config=text, wait=False)
    assert server.wait() != 0
    assert "wsgw.toml" in server.err()
    for word in said:
        assert word in server.err()


def test_several_gateways_with_defaults(serve, tmp_path):
    records = {name: tmp_path / f"record-{name}" for name in "ab"}

    def listener(name):
        return json.dumps([*map(str, FAKE), "--record", str(records[name])])

    server = serve(config=f"""
        [defaults]
        port = 0
        route = "sender"
        [gateways.a]
        listener = {listener("a")}
        [gateways.b]
        listener = {listener("b")}
        route = "all"
        [gateways.C]
    """)
    assert [g["id"] for g in server.api("GET", "/v1/gateways")[1]] == ["a", "b", "c"]
    a1, a2 = server.named(gateway="a"), server.named(gateway="a")
    b1, b2 = server.named(gateway="b"), server.named(gateway="b")
    # Names are unique among all gateways.
    assert len({name for _, name in (a1, a2, b1, b2)}) == 4
    a1[0].send("to me")
    b1[0].send("to all")
    assert a1[0].recv() == "to me"
    assert b2[0].recv() == "to all"
    a2[0].send("me too")
    assert a2[0].recv() == "me too"
    server.api("POST", "/v1/gateways/a/stop")
    assert a1[0].await_close()[0] == 1001
    b1[0].send("still")
    assert b2[0].recv() == "still"


def test_a_string_listener_is_for_the_shell(serve):
    server = serve(config="[gateways.a]\nport = 0\nlistener = 'cat | cat'\n")
    a = server.connect(gateway="a")
    a.send("x")
    assert a.recv() == "x"


def test_units(serve):
    server = serve(config="""
        [gateways.a]
        port = 0
        listener-timeout = "250ms"
        hang-timeout = 60
        drain = 0.5
        ping-interval = "5m"
        max-message = "1KiB"
        max-line = "1MiB"
        max-queue = 65536
    """)
    a = server.connect(gateway="a")
    a.send("x" * 1025)
    assert a.await_close()[0] == 1009


def test_a_flag_needs_an_id_with_several_gateways(serve):
    config = "[gateways.a]\nport = 0\n[gateways.b]\nport = 0\n"
    server = serve("--route", "none", config=config, wait=False)
    assert server.wait() == 2
    assert "--id" in server.err()
    server = serve("--route", "none", "--id", "b", config=config)
    a = server.connect(gateway="b")
    a.send("x")
    server.push(gateway="b", message="mark")
    assert a.recv() == "mark"


def test_a_flag_wins_over_the_file_of_one_gateway(serve):
    server = serve("--route", "none", config="[gateways.a]\nport = 0\nroute = 'all'\n")
    a = server.connect(gateway="a")
    a.send("x")
    server.push(gateway="a", message="mark")
    assert a.recv() == "mark"


def test_an_implicit_file_and_how_it_is_set_aside(serve, tmp_path):
    directory = tmp_path / "s"
    (directory / "config/wsgw").mkdir(parents=True)
    (directory / "config/wsgw/wsgw.toml").write_text("[gateways.fromfile]\nport = 0\n")
    server = serve(port=False, name="s")
    server.connect(gateway="fromfile")
    server.stop()
    server = serve("--port", "0", port=False, name="s")
    assert [g["id"] for g in server.api("GET", "/v1/gateways")[1]] == ["default"]
    assert "wsgw.toml" in server.err() and "set aside" in server.err()


def test_the_startup_modes(serve):
    server = serve(config="""
        [defaults]
        port = 0
        [gateways.auto]
        [gateways.hand]
        startup = "manual"
        [gateways.off]
        startup = "disabled"
    """)
    states = {g["id"]: g["state"] for g in server.api("GET", "/v1/gateways")[1]}
    assert states == {"auto": "running", "hand": "stopped", "off": "stopped"}
    assert server.cli("start", "hand").returncode == 0
    assert server.status("hand")["state"] == "running"
    server.connect(gateway="hand")
    done = server.cli("start", "off")
    assert done.returncode == 4 and "disabled" in done.stderr
    assert server.status("off")["state"] == "stopped"
