"""What is counted, as a scrape sees it."""

import re
import struct


def series(server, name):
    text = server.http("GET", "/metrics", token=False)[2]
    return dict(re.findall(rf'^{name}{{gateway="default",code="([^"]*)"}} (\d+)$', text, re.M))


def test_clients_do_not_choose_how_many_series_there_are(serve):
    """Each of the codes that a client may send was a series for good."""
    server = serve()
    name = "wsgw_connections_closed_total"
    codes = [1000, 1001, 4321, 3999, *range(3000, 3100), *range(4000, 4100), 4321]
    for code in codes:
        link = server.raw().upgrade()
        link.frame(8, struct.pack(">H", code))
        assert link.read_close()[0] == code
        link.close()
    server.await_metric(name, len(codes))
    found = series(server, name)
    # What comes first is what the application uses; the rest is counted by its range.
    assert found["1000"] == found["1001"] == found["3999"] == "1" and found["4321"] == "2"
    assert len(found) <= 2 + 32 + 2, found
    assert int(found["3000-3999"]) >= 60 and int(found["4000-4999"]) >= 60
    # One that the gateway's own side chooses is no other.
    link = server.raw().upgrade()
    (conn,) = server.connections()
    assert server.cli("close", "default", conn["conn"], "--code", "4321").returncode == 0
    assert link.read_close()[0] == 4321
    link.frame(8, struct.pack(">H", 4321))
    server.await_metric(name, 3, code="4321")
