"""The dashboard of Grafana: its queries are PromQL, and ask for what the program has."""

import json
import re

import promql_parser
import pytest

from harness import ROOT

DASHBOARD = json.loads((ROOT / "examples/grafana.json").read_text())
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
QUERIES = [(panel["title"], target) for panel in PANELS for target in panel["targets"]]
#: Those of Prometheus itself.
LABELS = {"gateway", "job", "instance", "le"}


@pytest.fixture
def families(serve):
    """Each metric's type, and its label besides `gateway`."""
    server = serve(listener=["cat"])
    types = dict(re.findall(r"^# TYPE (\w+) (\w+)$", server.http("GET", "/metrics", token=False)[2], re.M))
    table = re.findall(r"^\| `(wsgw_\w+)` \| (\w+) \|(?: `(\w+)`)?", (
        ROOT / "docs/operations.md").read_text(), re.M)
    # Those of a cluster are there with one alone; a test in Rust holds the table to the program.
    assert {name: kind for name, kind, _ in table if not name.startswith("wsgw_cluster_")} == types
    return {name: (kind, label) for name, kind, label in table}


def series(families):
    """The names of series, each with its metric."""
    found = {}
    for name, (kind, _) in families.items():
        suffixes = ("_bucket", "_sum", "_count") if kind == "histogram" else ("",)
        found |= {name + suffix: name for suffix in suffixes}
    return found


def test_each_query_is_of_metrics_that_exist(families):
    known = series(families)
    for title, target in QUERIES:
        names = re.findall(r"wsgw_\w+", target["expr"])
        assert names, title
        assert set(names) <= set(known), title
        # Grafana's own variables are text before Prometheus sees them.
        query = target["expr"].replace("$__rate_interval", "1m")
        promql_parser.parse(query)
        labels = LABELS | {families[known[name]][1] for name in names}
        used = [label for by in re.findall(r" by \(([^)]*)\)", query) for label in by.split(", ")]
        used += re.findall(r"{{(\w+)}}", target["legendFormat"])
        assert set(used) <= labels, title
        for name in names:
            kind = families[known[name]][0]
            grows = re.search(rf"(rate|increase)\({name}\b", query)
            assert bool(grows) == (kind in ("counter", "histogram")) or "count(" in query, (title, name)


def test_no_metric_is_forgotten(families):
    text = " ".join(target["expr"] for _, target in QUERIES)
    for name, family in series(families).items():
        if not name.endswith(("_sum", "_count")):
            assert name in text, family


def test_the_variables_are_declared():
    declared = {variable["name"] for variable in DASHBOARD["templating"]["list"]}
    text = json.dumps(DASHBOARD)
    used = set(re.findall(r"\$\{?(\w+)", text)) - {"__rate_interval", "__all"}
    assert used == declared


def test_the_panels_fit():
    taken = {}
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(ids)) == len(ids)
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        assert panel["title"] and place["x"] + place["w"] <= 24
        for x in range(place["x"], place["x"] + place["w"]):
            for y in range(place["y"], place["y"] + place["h"]):
                other = taken.setdefault((x, y), panel["title"])
                assert other == panel["title"], (other, panel["title"])
