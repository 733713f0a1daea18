"""Latency is what clients wait: a single-threaded server that takes 20 ms per request under ten
clients queues them in its socket. p50 and p99 at global lie within 3 % of the clients' own clocks."""
import http.client
import http.server
import multiprocessing
import sys
import threading
import time

from harness import Stack, free_port, percentile, query, skip, wait_for
from requests_test import collectors

CLIENTS, REQUESTS = 10, 60


class Slow(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        time.sleep(0.020)
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(b"ok")
        self.close_connection = True

    def log_message(self, *unused):
        pass


def serve(port):
    http.server.HTTPServer.request_queue_size = 64
    http.server.HTTPServer(("127.0.0.1", port), Slow).serve_forever()


def client(port, waits):
    for _ in range(REQUESTS):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        connection.connect()
        began = time.perf_counter()
        connection.request("GET", "/work")
        connection.getresponse().read()
        waits.append(time.perf_counter() - began)
        connection.close()


def main():
    with Stack(requests=True, statsd=False) as stack:
        wait_for("collectors", lambda: collectors(stack))
        state = next(c for c in collectors(stack) if c["name"] == "requests")
        if state["state"] == "unavailable":
            skip(f"request collector unavailable: {state['reason']}")
        port = free_port()
        server = multiprocessing.Process(target=serve, args=(port,), daemon=True)
        server.start()
        try:
            wait_for("the slow server", lambda: http.client.HTTPConnection(
                "127.0.0.1", port, timeout=1).connect() is None)
            waits = []
            threads = [threading.Thread(target=client, args=(port, waits)) for _ in range(CLIENTS)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        finally:
            server.terminate()
            server.join()

        expected = CLIENTS * REQUESTS
        selector = f'http_server_request_duration_seconds{{server_port="{port}"}}[1h]'
        wait_for("all requests at global", lambda: stack.total(f"sum(increase({selector}))") == expected)
        for share in (0.5, 0.99):
            truth = percentile(waits, share)
            answer = query(stack.global_url, f"histogram_quantile({share}, sum(increase({selector})))")
            value = float(answer[0]["value"][1])
            off = abs(value - truth) / truth
            print(f"p{share * 100:g}: clients {truth * 1000:.1f} ms, Weir {value * 1000:.1f} ms, "
                  f"{off * 100:.2f} % off", flush=True)
            assert off <= 0.03, (share, value, truth)


if __name__ == "__main__":
    sys.exit(main())
