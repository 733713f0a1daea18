"""Answers carry their truth: two hosts, region and global. A host that is killed is missing from the
coverage at both tiers for the windows it does not finish, and only for those; it is back when it is
back; every window of every host is marked at most once over kill -9, and what is expected is hosts x
windows to the unit. Events beyond a tiny limit are the upper bound of the named ones."""
import json
import math
import os
import socket
import sys
import time

from harness import BIN, Process, Stack, get, number_of, query, wait_for

SETTLED = 8  # s after which every window of these tiers has been closed and folded


def second_daemon(stack):
    """edge-2: the first one's configuration without StatsD, in a folder of its own."""
    with open(f"{stack.folder}/daemon.yaml") as text:
        config = text.read()
    config = config.split("statsd:")[0].replace("host: edge-1", "host: edge-2")
    config = config.replace(f"{stack.folder}/daemon", f"{stack.folder}/daemon-2")
    os.makedirs(f"{stack.folder}/daemon-2")
    path = f"{stack.folder}/daemon-2.yaml"
    with open(path, "w") as out:
        out.write(config + "statsd: {enabled: false}\n")
    return Process("daemon-2", [os.path.join(BIN, "weir-daemon"), "--config", path],
                   f"{stack.folder}/daemon-2.log")


def ask(url, expression, at):
    status, text = get(url, "/api/v1/query", {"query": expression, "time": at, "weir": "1"})
    assert status == 200, text
    return json.loads(text)


def coverage(url, start, end):
    """(merged, expected) of the windows in (start, end], and whether a warning says less."""
    body = ask(url, f"sum(increase(weir_source_windows_total[{end - start}s]))", end)
    got = body["weir"]["coverage"]
    warned = any(text.startswith("coverage: ") for text in body.get("warnings", []))
    assert warned == (got["merged"] < got["expected"]), body
    assert got["windows_missing"] == got["expected"] - got["merged"], body
    return got["merged"], got["expected"]


def settled():
    """The end of the newest 5 s window that no tier waits for any more."""
    return int(time.time() - SETTLED) // 5 * 5


def main():
    stack = Stack(close_after="4s", daemon="limits: {series: 100}\n")
    other = second_daemon(stack)
    try:
        with stack:
            other.start()
            tiers = (stack.region_url, stack.global_url)

            def whole(after, hosts=2):
                end = settled()
                return end >= after + 5 and all(
                    coverage(url, end - 5, end) == (5 * hosts, 5 * hosts) for url in tiers) and end

            start = wait_for("both hosts in a whole window", lambda: whole(0)) - 5

            # One host is killed: what it does not finish is missing, at the region and above.
            other.kill()
            down = math.ceil(time.time() / 5) * 5  # the first 5 s window without it
            wait_for("a window without edge-2", lambda: settled() >= down + 5)
            for url in tiers:
                wait_for("the missing host", lambda u=url: coverage(u, down, down + 5) == (5, 10))
            assert coverage(stack.region_url, start, start + 5) == (10, 10)
            host = ask(stack.region_url,
                       'sum(increase(weir_source_windows_total{host="edge-2"}[5s]))', down + 5)
            assert host["weir"]["coverage"]["expected"] == 5, host
            assert host["weir"]["coverage"]["merged"] == 0, host

            # It comes back, and the other one is killed again and again.
            other.start()
            for _ in range(3):
                time.sleep(1.3)
                stack.daemon.kill()
                stack.daemon.start()
            back = math.ceil(time.time() / 5) * 5
            end = wait_for("both hosts again", lambda: whole(back))
            merged, expected = coverage(stack.region_url, start, end)
            assert expected == 2 * (end - start), (merged, expected, end - start)
            assert merged < expected
            assert coverage(stack.global_url, start, end) == (merged, expected)
            marks = ask(stack.region_url, "weir_source_windows_total[60s]", end)["data"]["result"]
            for row in marks:
                assert all(value == "1" for _, value in row["values"]), row
            print(f"{merged} of {expected} source-windows over {end - start} s, each marked once",
                  flush=True)

            # 500 label sets where 100 series have room: the sum is exact, the named part says how
            # much more it could be.
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out:
                out.connect(stack.unix)
                for i in range(500):
                    out.send(f"junk.hits:1|c|#kind:k{i}".encode())
            for tier in ("region", "global"):
                wait_for(f"500 events at {tier}", lambda t=tier: stack.total(
                    "sum(increase(junk_hits[1m]))", t) == 500)
            named = 'sum(increase(junk_hits{kind=~"k.*"}[1m]))'
            for url in tiers:
                body = ask(url, named, time.time())
                value = number_of(body["data"]["result"][0])
                assert value < 500, body
                assert body["weir"]["samples"][0]["overflow_upper"] == "500", body
                assert body["weir"]["overflow"][0]["events"] == 500 - value, body
                assert any(text.startswith("overflow: ") for text in body["warnings"]), body
            text = stack.weir("query", named, tier="region")
            print(text, flush=True)
            assert "coverage: " in text and f"overflow: up to {500 - value} more" in text, text
            exact = ask(stack.region_url, "sum(increase(junk_hits[1m]))", time.time())
            assert exact["weir"]["overflow"] == [], exact
            assert other.stop() == 0

            # Every mark is at global, once.
            at_region = stack.total("sum(increase(weir_source_windows_total[1h]))", "region")
            wait_for("the same marks at global", lambda: query(
                stack.global_url, "sum(increase(weir_source_windows_total[1h]))") and stack.total(
                    "sum(increase(weir_source_windows_total[1h]))") >= at_region)
    finally:
        if other.alive():
            other.kill()


if __name__ == "__main__":
    sys.exit(main())
