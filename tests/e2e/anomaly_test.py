"""A service whose latency triples for ten windows after sixty quiet ones is listed by `weir
anomalies` at region and global; a service that stays quiet is not. Windows are seconds here."""
import json
import socket
import sys
import time

from harness import Stack, get, wait_for

QUIET, LOUD = 62, 12
WINDOW = 2  # seconds: a region's rollup, and global's


def push(stack, values):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out:
        for service, ms in values:
            out.sendto("\n".join(f"http_server_request_duration:{v}|ms|#service:{service}"
                                 for v in ms).encode(), stack.unix)


def anomalous(url, start):
    status, text = get(url, "/api/v1/alerts", {"start": start, "end": time.time() + 60})
    assert status == 200, text
    return [a["labels"] for a in json.loads(text)["data"]["alerts"]]


def main():
    # A region rolls 1 s into 2 s; global rolls 2 s into 2 s: both seal often enough for one test.
    with Stack(window="1s", region_out=f"{WINDOW}s", global_out=f"{WINDOW * 2}s", flush="300ms",
               close_after="500ms") as stack:
        began = time.time()
        # Pushed half a window at a time, for as many windows of the *global* tier as the detector
        # needs to be warm: the region then has twice as many.
        width = WINDOW * 2
        base = [18, 19, 20, 20, 21, 22, 20, 19, 20, 21]

        def run(seconds, factor):
            until = time.time() + seconds
            beat = 0
            while time.time() < until:
                jitter = beat % 3
                push(stack, [("checkout", [v * factor + jitter for v in base]),
                             ("quiet", [v + jitter for v in base])])
                beat += 1
                time.sleep(0.1)

        run(QUIET * width, 1)
        loud_from = time.time()
        run(LOUD * width, 3)

        for url, name in ((stack.region_url, "region"), (stack.global_url, "global")):
            def flagged(u=url):
                return [a for a in anomalous(u, loud_from - width)
                        if a["service"] == "checkout" and a["signal"] == "p99"]
            wait_for(f"checkout's p99 among the anomalies of {name}", flagged, 60)
            quiet = [a for a in anomalous(url, began) if a["service"] == "quiet" and a["signal"] == "p99"]
            assert not quiet, quiet
        for tier in ("region", "global"):
            text = stack.weir("anomalies", "--since", "1h", tier=tier)
            assert "checkout" in text and "p99" in text, text
            print(f"{tier}:\n{text}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
