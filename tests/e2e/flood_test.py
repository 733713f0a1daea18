"""A flood of label values and names costs nobody else a count: beside 300,000 names and 100,000
label sets that are never seen again, 50 metrics in use are exact under their own names at the
region, the total is exact to the unit, and the daemon's memory grows by no more than its budget."""
import signal
import socket
import sys

from harness import Stack, by_label, query, wait_for

BUDGET_MIB = 24
NAMES = 300_000
LABEL_SETS = 100_000
IN_USE = 50
LIMITS = f"""
limits: {{memory: {BUDGET_MIB}MiB, series: 4000, series_per_metric: 500}}
"""


def memory_kib(pid, key):
    with open(f"/proc/{pid}/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith(key + ":"))


def lines(prefix, first, count, suffix=""):
    return "\n".join(f"{prefix}{i}:1|c{suffix}" for i in range(first, first + count)).encode()


def reload_limits(stack):
    path = f"{stack.folder}/daemon.yaml"
    with open(path) as file:
        good = file.read()
    for text, answer in ((good.replace("series: 4000", "series: many"), "not reloaded:"),
                         (good.replace("series: 4000", "series: 2000"), "reloaded ")):
        with open(path, "w") as file:
            file.write(text)
        stack.daemon.child.send_signal(signal.SIGHUP)
        wait_for(f"'{answer}' in the log", lambda a=answer: a in stack.daemon.tail(), 10)


def main():
    with Stack(daemon=LIMITS, window="5s", region_out="10s", global_out="60s") as stack:
        sender = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        sender.connect(stack.unix)  # a full one makes us wait: nothing is lost
        each = 0

        def use():
            sender.send(lines("used", 0, IN_USE))
            return 1

        for _ in range(100):
            each += use()
        wait_for("the metrics in use at the region", lambda: stack.total(
            'sum(increase({__name__=~"used.*"}[1h]))', "region") == each * IN_USE)
        pid = stack.daemon.child.pid
        before = memory_kib(pid, "VmRSS")
        for first in range(0, NAMES, 30):
            sender.send(lines("junk", first, 30))
            if first % 3000 == 0:
                each += use()
        for first in range(0, LABEL_SETS, 20):
            sender.send("\n".join(
                f"calls:1|c|#route:/r{i % 40},user:u{i}" for i in range(first, first + 20)).encode())
            if first % 2000 == 0:
                each += use()
        total = NAMES + LABEL_SETS + each * IN_USE
        wait_for("every event at the region", lambda: stack.total(
            'sum(increase({__name__=~".+",__name__!~"weir_.*"}[1h]))', "region") >= total, 90)
        growth = (memory_kib(pid, "VmHWM") - before) / 1024
        got = stack.total('sum(increase({__name__=~".+",__name__!~"weir_.*"}[1h]))', "region")
        print(f"{got} of {total} events; memory grew by {growth:.1f} MiB", flush=True)
        assert got == total, (got, total)
        for i in range(IN_USE):
            assert stack.total(f"sum(increase(used{i}[1h]))", "region") == each, i
        # One label is flooded: the other keeps its values.
        routes = by_label(query(stack.region_url, "sum by (route) (increase(calls[1h]))"), "route")
        # The metric came after the flood of names: its first events, until it had one, are __other__.
        assert 0.995 * LABEL_SETS <= sum(routes.values()) <= LABEL_SETS, routes
        named = sum(n for route, n in routes.items() if route.startswith("/r"))
        assert named >= 0.95 * LABEL_SETS, routes
        assert growth <= BUDGET_MIB + 8, growth
        reload_limits(stack)


if __name__ == "__main__":
    sys.exit(main())
