"""README and docs: names are those of the program, links lead somewhere, and what is shown works."""

import re

import pytest

from harness import ROOT, run_cli, tool

PAGES = [ROOT / "README.md", ROOT / "SECURITY.md", *sorted((ROOT / "docs").glob("*.md"))]
COMMANDS = ("serve", "send", "connect", "status", "start", "stop", "restart", "reload",
            "connections", "channels", "history", "close", "completions", "bench")


def test_every_metric_that_is_named_is_there(serve):
    server = serve(listener=["cat"])
    text = server.http("GET", "/metrics", token=False)[2]
    for page in PAGES:
        for name in set(re.findall(r"`(wsgw_\w+)`", page.read_text())):
            # Those of a cluster are there where one is; test_cluster_loss.py looks at them.
            if name.startswith("wsgw_cluster_"):
                continue
            assert f"# TYPE {name} " in text, (page.name, name)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_flag_that_is_named_is_there(page, tmp_path):
    """Each flag belongs to the command that it is shown with."""
    known = {command: run_cli(tmp_path, command, "--help").stdout for command in COMMANDS}
    for line in re.findall(rf"wsgw (?:{'|'.join(COMMANDS)})\b[^\n`]*", page.read_text()):
        command = line.split()[1]
        own = line.split(" -- ")[0].split(" | ")[0]
        for flag in re.findall(r"(?<=\s)--[a-z][a-z-]*", own):
            assert flag in known[command], line


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_config_files_that_are_shown_are_good(page, tmp_path):
    for block in re.findall(r"```toml\n(.*?)```", page.read_text(), re.S):
        config = tmp_path / "c.toml"
        config.write_text(re.sub(r"port = \d+", "port = 0", block))
        done = run_cli(tmp_path, "serve", "--config", config, "--control", "nowhere")
        # The file is read before the flag is found wrong.
        assert "--control" in done.stderr, done.stderr


@pytest.mark.parametrize(("kind", "program"), [("python", "python3"), ("js", "node"), ("bash", "bash")])
def test_the_readmes_listeners(serve, tmp_path, kind, program):
    """Each listener as it stands in the README."""
    tool(program)
    (source,) = re.findall(rf"```{kind}\n(.*?)```", (ROOT / "README.md").read_text(), re.S)
    script = tmp_path / f"shout.{kind}"
    script.write_text(source)
    client = serve(listener=[program, script]).connect()
    client.send("hello")
    assert client.recv() == "HELLO"


def test_the_table_of_limits(tmp_path):
    """docs/operations.md has every limit with the default that the program has."""
    known = re.sub(r"\s+", " ", run_cli(tmp_path, "serve", "--help").stdout)
    text = (ROOT / "docs/operations.md").read_text()
    section = text.split("\n## Limits\n")[1].split("\n## ")[0]
    table = dict(re.findall(r"^\| `([a-z-]+)` \| ([^|]+?) \|", section, re.M))
    assert len(table) > 20
    for key, default in table.items():
        flag = "protocol" if key == "protocols" else key
        found = re.search(rf"--{flag}(?: <[^>]+>|\[=<[^>]+>\]) (.*?)(?= --[a-z]|$)", known)
        assert found, key
        shown = re.search(r"\[default: ([^\]]+)\]", found[1])
        assert (shown[1] if shown else "none") == default, (key, found[1])


def test_the_licences_are_there():
    assert "MIT OR Apache-2.0" in (ROOT / "LICENSE").read_text()
    assert "TERMS AND CONDITIONS" in (ROOT / "LICENSE-APACHE").read_text()
    assert "Permission is hereby granted" in (ROOT / "LICENSE-MIT").read_text()


def test_the_changelog_knows_this_version():
    version = re.search(r'^version = "(.*)"', (ROOT / "Cargo.toml").read_text(), re.M)[1]
    assert re.search(rf"^## \[?{re.escape(version)}\b", (ROOT / "CHANGELOG.md").read_text(), re.M)
