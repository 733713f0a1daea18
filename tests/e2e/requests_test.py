"""Requests seen in the kernel are exact: the daemon, the region and the global tier count what nginx
itself counts, under wrk at full speed, with a connection per request, large bodies and errors."""
import http.client
import signal
import subprocess
import sys
import time

from harness import Nginx, Stack, by_label, get, query, skip, wait_for

SECONDS = 30
STOPPED_S = 3


def seen(stack, nginx, tier="global", extra=""):
    return stack.total(f'sum(increase(http_server_request_duration_seconds'
                       f'{{server_port="{nginx.port}"{extra}}}[1h]))', tier)


def one_connection_each(port, path, count):
    for _ in range(count):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        connection.request("GET", path, headers={"Connection": "close"})
        connection.getresponse().read()
        connection.close()


def agree(stack, nginx, what, expected, extra=""):
    """Region and global reach exactly `expected`, and stay there."""
    for tier in ("region", "global"):
        wait_for(f"{what} at {tier}: {expected}",
                 lambda t=tier: seen(stack, nginx, t, extra) >= expected, 60)
        assert seen(stack, nginx, tier, extra) == expected, (
            what, tier, seen(stack, nginx, tier, extra), expected)
    print(f"{what}: {expected} at nginx, region and global", flush=True)


def main():
    with Stack(requests=True, statsd=False) as stack, Nginx(stack.folder) as nginx:
        wait_for("the region to hear of the daemon's collectors", lambda: any(
            c["name"] == "requests" for c in collectors(stack)))
        state = next(c for c in collectors(stack) if c["name"] == "requests")
        if state["state"] == "unavailable":
            skip(f"request collector unavailable: {state['reason']}")

        wrk = subprocess.Popen(["wrk", "-t1", "-c16", f"-d{SECONDS}s",
                                f"http://127.0.0.1:{nginx.port}/hello"],
                               stdout=subprocess.PIPE, text=True)
        time.sleep(SECONDS / 3)
        stack.daemon.child.send_signal(signal.SIGSTOP)  # the kernel goes on counting
        time.sleep(STOPPED_S)
        stack.daemon.child.send_signal(signal.SIGCONT)
        print(wrk.communicate()[0], flush=True)
        assert wrk.returncode == 0
        total = nginx.requests()
        agree(stack, nginx, f"keep-alive under wrk, the daemon stopped for {STOPPED_S} s", total)

        one_connection_each(nginx.port, "/hello", 1000)
        total += 1000
        assert nginx.requests() == total
        agree(stack, nginx, "a connection per request", total)

        with open(nginx.folder + "/www/big", "wb") as big:
            big.write(b"x" * (1 << 20))
        one_connection_each(nginx.port, "/files/big", 20)
        total += 20
        agree(stack, nginx, "1 MiB by sendfile", total)
        sent = stack.total('sum(increase(http_server_response_bytes_total'
                           f'{{server_port="{nginx.port}",http_route=~"/files/.*"}}[1h]))')
        assert sent >= 20 << 20, f"response bytes {sent} are fewer than the bodies"

        for _ in range(20):
            connection = http.client.HTTPConnection("127.0.0.1", nginx.port, timeout=10)
            connection.request("POST", "/upload", body=b"y" * 200_000)
            assert connection.getresponse().read() == b"stored\n"
            connection.close()
        total += 20
        agree(stack, nginx, "200 KB POST", total)
        posts = seen(stack, nginx, "global", ',http_request_method="POST"')
        assert posts == 20, posts

        for _ in range(30):
            assert get(f"http://127.0.0.1:{nginx.port}", "/fail")[0] == 503
        total += 30
        agree(stack, nginx, "all requests with the 5xx", total)
        agree(stack, nginx, "5xx by class", 30, ',http_response_status_class="5xx"')

        classes = by_label(query(stack.global_url,
                                 'sum by (service) (increase(http_server_request_duration_seconds'
                                 f'{{server_port="{nginx.port}"}}[1h]))'), "service")
        assert classes == {"nginx": total}, classes


def collectors(stack):
    import json
    _, text = get(stack.region_url, "/api/v1/status/weir")
    found = []
    for source in json.loads(text)["data"]["sources"]:
        found += source["collectors"]
    return found


if __name__ == "__main__":
    sys.exit(main())
