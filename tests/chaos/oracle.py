"""What must hold once the faults are over: exact per source and window, nothing left anywhere."""
import glob
import json
import os
import sqlite3
import time
import urllib.error

from harness import get
from world import METRIC, MIDDLE, UNIT, metrics, status

DRAIN_S = 60
INJECTED, INJECTED_SUM = "inject", 7 * UNIT  # what inject.cc calls itself, and each honest batch
MAX_INBOX = 50  # rows: of the marks of a few seconds
MAX_INTERVALS = 1024  # of one source and epoch in a ledger (delivery.md)
DESCRIPTORS, RSS_KIB = 16, 64 << 10  # what a process may have more than at the start


def by_window(url, expression, first, last):
    """{(host, window start): integer} of increases over windows of the middle width."""
    code, text = get(url, "/api/v1/query_range", {
        "query": expression, "start": first + MIDDLE, "end": last + MIDDLE, "step": MIDDLE})
    body = json.loads(text)
    assert code == 200 and body["status"] == "success", text
    found = {}
    for row in body["data"]["result"]:
        for at, value in row["values"]:
            assert float(value) == int(float(value)), (row, value)
            if float(value) != 0:
                found[row["metric"].get("host", ""), int(at) - MIDDLE] = int(float(value))
    return found


class Oracle:
    def __init__(self, world):
        self.world = world
        self.usage = {}

    def baseline(self):
        """Before the faults."""
        self.usage = {name: node.usage() for name, node in self.world.nodes.items()}

    def expected(self):
        """{(edge, middle window start): sum} of everything pushed."""
        sums = {}
        for name, pusher in self.world.pushers.items():
            for second, value in list(pusher.pushed.items()):
                key = name, second - second % MIDDLE
                sums[key] = sums.get(key, 0) + value
        for second, value in self.world.injected.items():
            key = INJECTED, second - second % MIDDLE
            sums[key] = sums.get(key, 0) + value
        return sums

    def unsure(self):
        """{the same: sum} of what may be there besides, or be lost with a disk or an epoch."""
        sums = {}
        for second, value in self.world.unsure.items():
            key = INJECTED, second - second % MIDDLE
            sums[key] = sums.get(key, 0) + value
        return sums

    def found(self):
        """The same at global: merged, and lost with a tombstone."""
        windows = [window for _, window in [*self.expected(), *self.unsure()]]
        url, first, last = self.world.url("g"), min(windows), max(windows)
        merged = by_window(url, f"sum by (host) (increase({METRIC}[{MIDDLE}s]))", first, last)
        lost = by_window(
            url, f'sum by (host) (increase(weir_dropped_total{{where="outbox"}}[{MIDDLE}s]))',
            first, last)
        return merged, {key: value // UNIT * UNIT for key, value in lost.items() if value >= UNIT}

    def differences(self):
        """[sentence] for each source and window that is not exact."""
        expected, unsure, (merged, lost) = self.expected(), self.unsure(), self.found()
        wrong = []
        for key in sorted({*expected, *merged, *lost}):
            want, have, gone = expected.get(key, 0), merged.get(key, 0), lost.get(key, 0)
            more = have + gone - want
            if more < 0 or more > unsure.get(key, 0) or more % INJECTED_SUM != 0:
                wrong.append(f"{key[0]} window {key[1]}: pushed {want // UNIT}, merged "
                             f"{have // UNIT}, tombstoned {gone // UNIT}")
        return wrong

    def waiting(self):
        """[sentence] for every push that is still on its way. Windows are marked all the time, so
        outboxes are never empty; but a mass below UNIT holds no push."""
        left = []
        for name in self.world.http:
            now = status(self.world.url(name))
            if now["outbox"]["outbox_mass"] >= UNIT:
                left.append(f"{name} has pushes in its outbox")
            if now["inbox"]["rows"] > MAX_INBOX:
                left.append(f"{name} has {now['inbox']['rows']} rows in its inbox")
            for source in now["sources"]:
                counters = source["counters"]
                mass = counters.get("weir_outbox_pushed_mass_total", 0) - counters.get(
                    "weir_outbox_acked_mass_total", 0)
                if source["tier"] == "edge" and mass >= UNIT:
                    left.append(f"{source['name']} has pushes in its outbox, says {name}")
        return left

    def drained(self):
        """Waits until all is exact and nothing is on its way. False: it never was."""
        deadline, problem = time.monotonic() + DRAIN_S, ["not asked yet"]
        while time.monotonic() < deadline:
            try:
                problem = self.waiting() or self.differences()
            except (OSError, urllib.error.URLError) as error:
                problem = [str(error)]
            if not problem:
                return True
            time.sleep(0.3)
        for sentence in problem[:10]:
            self.world.fail(f"after {DRAIN_S} s: {sentence}")
        return False

    def imbalance(self):
        """The largest weir_ledger_imbalance or weir_source_imbalance, as the tiers say."""
        largest = 0
        for name in self.world.http:
            for series, value in metrics(self.world.url(name)).items():
                if series.startswith(("weir_ledger_imbalance", "weir_source_imbalance")):
                    largest = max(largest, abs(value))
        return largest

    def check_processes(self):
        """Descriptors and memory are back to what they were."""
        for name, node in self.world.nodes.items():
            descriptors, rss = node.usage()
            was_descriptors, was_rss = self.usage[name]
            if descriptors > was_descriptors + DESCRIPTORS:
                self.world.fail(f"{name} has {descriptors} descriptors, had {was_descriptors}")
            if rss > was_rss + RSS_KIB:
                self.world.fail(f"{name} has {rss} KiB resident, had {was_rss}")

    def check_tables(self):
        """After close(): the databases hold nothing that grows with faults."""
        for name, node in self.world.nodes.items():
            for path in glob.glob(os.path.join(node.data_dir, "*.db")):
                database = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
                tables = {row[0] for row in database.execute(
                    "SELECT name FROM sqlite_master WHERE type='table'")}
                if "ledger" in tables:
                    most = database.execute("SELECT coalesce(max(n), 0) FROM (SELECT count(*) n "
                                            "FROM ledger GROUP BY level, source, epoch)")
                    intervals = most.fetchone()[0]
                    if intervals > MAX_INTERVALS:
                        self.world.fail(f"{name}: {intervals} intervals of one epoch in its ledger")
                for table in sorted(tables & {"outbox", "assign", "out", "inbox"}):
                    rows = database.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
                    if rows > MAX_INBOX:
                        self.world.fail(f"{name}: {rows} rows left in {table}")
                database.close()
