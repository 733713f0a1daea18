"""One run of the chaos suite, inside its own network and mount namespace (tests/chaos/run starts
it). Writes everything to --folder and prints one JSON object: the result."""
import argparse
import glob
import json
import os
import random
import sqlite3
import subprocess
import sys
import time
import traceback

import crash_points
import schedule
from harness import wait_for
from oracle import Oracle
from world import World

WARM_UP_S = 1.5  # of clean pushing before the faults
CRASHES_S = 120   # in which every crash point must have been passed
DATABASES_S = 20  # the same, of those that every new database passes
FENCE_AFTER_S = 2
FAILOVER_S, STOP_S = 4.0, 2.0  # at most (docs/testing.md)
TINY_DISK_MIB = 64  # room for the journal of pushes and a little database
TINY_STEPS = "limits: {disk_reserve: 256KiB, disk_step: 1MiB, label_value: 256}\n"
LONG_LANES = [f"{'long' * 60}{number}" for number in range(100)]
TOMBSTONES_S = 60  # in which a full disk must have made tombstones


def make_world(arguments, edge_extra="", **shape):
    fence = f"fence_after: {FENCE_AFTER_S}s\n"
    return World(arguments.folder, arguments.seed, edge_extra=fence + edge_extra,
                 region_extra=fence, global_extra=fence, **shape)


def step(world, name, *arguments):
    world.note(" ".join([name, *map(str, arguments)]))
    return getattr(world, name)(*arguments)


def play(world, steps):
    began = time.monotonic()
    for at, name, *arguments in steps:
        time.sleep(max(0.0, began + at - time.monotonic()))
        step(world, name, *arguments)


# --- kinds of runs: each a world, and what happens to it ------------------------------------------


class Run:
    """`faults` is the run; what it returns goes into the result."""

    def begin(self):
        """Everything runs; what the processes hold after this is what they may hold at the end."""
        time.sleep(WARM_UP_S)

    def judge(self, oracle):
        """All is exact: what else must hold."""

    def afterwards(self):
        """Another blow once all is exact. False: none, and nothing to wait for."""
        return False


class RandomRun(Run):
    """Faults drawn from the seed."""

    def __init__(self, arguments):
        self.world = make_world(arguments, **schedule.shape_of(arguments.seed))
        chance = self.chance = random.Random(f"{arguments.seed}/scenario")
        names = list(self.world.nodes)
        small_disk = chance.choice(names) if chance.random() < 0.3 else None
        if small_disk:
            self.world.small_disk(small_disk)
        self.steps = schedule.draw(arguments.seed, {
            "nodes": names, "edges": list(self.world.pushers),
            "links": list(self.world.proxies.proxies),
            "aggregators": list(self.world.http), "regions": self.world.regions,
            "regional": sum(self.world.regions.values(), []), "small_disk": small_disk,
            "fence_after": FENCE_AFTER_S})
        if arguments.schedule:
            with open(arguments.schedule) as text:
                self.steps = json.load(text)
        with open(f"{arguments.folder}/schedule.json", "w") as out:
            out.write("[" + ",\n ".join(json.dumps(one) for one in self.steps) + "]\n")

    def faults(self):
        play(self.world, self.steps)
        return {"faults": len(self.steps)}

    def afterwards(self):
        """Once all is exact an edge loses its disk, or comes back with an old one, and pushes on.
        Not before: what only a lost disk held is lost."""
        name = self.chance.choice(sorted(self.world.pushers))
        step(self.world, "kill", name)
        step(self.world, "restore" if self.world.has_copy(name) else "wipe", name)
        step(self.world, "run_again", name)
        step(self.world, "push_again", name)
        time.sleep(2)
        return True


class BadInputRun(Run):
    """Nothing but bad messages, at every tier: each is in exactly one counter."""

    def __init__(self, arguments):
        self.world = make_world(arguments, edges=1)
        self.world.calm = True

    def faults(self):
        for name in ("r1a", "g", "r1a"):
            step(self.world, "inject", name)
        return {"faults": self.world.bad_sent}


class CrashRun(Run):
    """Every crash point of every tier, each process dying at one after the other."""

    def __init__(self, arguments):
        self.world = make_world(arguments, edges=2, regions=1, aggregators=2)
        self.chance = random.Random(f"{arguments.seed}/crash")
        for node in self.world.nodes.values():
            node.crashes = list(crash_points.DATABASE)

    def nth(self, point):
        """At which passage; some come once or twice between two disturbances."""
        rare = any(name in point for name in crash_points.RARE)
        return 1 if rare else self.chance.randrange(1, 4)

    def begin(self):
        self.world.wait_crashes(DATABASES_S)
        for name in self.world.http:
            self.world.wait_ready(name)
        super().begin()

    def faults(self):
        nodes = self.world.nodes
        points = {name: [f"{point}:{self.nth(point)}"
                         for point in crash_points.POINTS[node.tier]]
                  for name, node in nodes.items()}
        for name in nodes:
            step(self.world, "crash_at", name, points[name])
        self.world.wait_crashes(CRASHES_S, self.disturb)
        return {"faults": len(nodes) * len(crash_points.DATABASE) + sum(map(len, points.values()))}

    def disturb(self, turn):
        """Some points are passed only when an aggregator is lost with its disk, or fenced alive."""
        name = ("r1a", "r1b")[turn // 2 % 2]
        if turn % 2 == 0:
            step(self.world, "kill", name)
            step(self.world, "wipe", name)
            step(self.world, "run_again", name)
        else:
            step(self.world, "freeze", name)
            time.sleep(FENCE_AFTER_S + 2)
            step(self.world, "thaw", name)
        time.sleep(3)


class TombstoneRun(Run):
    """Edges whose disks are full: first the last tier is cut off, so they hold what their region
    has, then the region too, so they give up what nobody has. Dying while they do."""

    def __init__(self, arguments):
        self.world = make_world(arguments, TINY_STEPS, edges=2, rate=200, lanes=LONG_LANES)
        self.chance = random.Random(f"{arguments.seed}/tombstone")
        self.edges = sorted(self.world.pushers)
        for name in self.edges:
            self.world.small_disk(name, TINY_DISK_MIB)

    def tombstones(self, name, since):
        """How many of windows from then on wait in the edge's outbox, as committed."""
        database = sqlite3.connect(f"file:{self.world.nodes[name].data_dir}/outbox.db?mode=ro",
                                   uri=True)
        found = database.execute("SELECT count(*) FROM outbox WHERE kind = 2 AND win_start >= ?",
                                 (since,)).fetchone()[0]
        database.close()
        return found

    def wait_for_tombstones(self, since=0):
        wait_for("tombstones of every edge", lambda: all(
            self.tombstones(name, since) for name in self.edges), TOMBSTONES_S)

    def faults(self):
        step(self.world, "port", "g", "drop")
        for name in self.edges:
            step(self.world, "fill", name)
        self.wait_for_tombstones()
        step(self.world, "port", "r1a", "drop")
        since = int(time.time()) + 1  # the region has nothing of these windows
        for name in self.edges:
            step(self.world, "crash_at", name, [f"{point}:{self.chance.randrange(1, 4)}"
                                                for point in crash_points.TOMBSTONE])
        self.world.wait_crashes(TOMBSTONES_S)
        self.wait_for_tombstones(since)
        return {"faults": len(self.edges) * len(crash_points.TOMBSTONE)}

    def judge(self, oracle):
        _, lost = oracle.found()
        for name in self.edges:
            if not any(host == name for host, _ in lost):
                self.world.fail(f"no push of {name} is lost with a tombstone")


class FailoverRun(Run):
    """How long the first new batch takes to be durable at the other aggregator, and how long it
    takes to stop while upstream is unreachable."""

    def __init__(self, arguments):
        self.world = make_world(arguments, edges=1, aggregators=2)

    def taken(self, name):
        """How many batches the aggregator has in its ledger, as committed."""
        total = 0
        for path in glob.glob(f"{self.world.nodes[name].data_dir}/*.db"):
            database = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
            total += database.execute(
                "SELECT coalesce(sum(hi - lo + 1), 0) FROM ledger WHERE level = 1").fetchone()[0]
            database.close()
        return total

    def faults(self):
        before = {name: self.taken(name) for name in ("r1a", "r1b")}
        time.sleep(2)
        active = max(before, key=lambda name: self.taken(name) - before[name])
        other = "r1b" if active == "r1a" else "r1a"
        had, began = self.taken(other), time.monotonic()
        step(self.world, "freeze", active)
        while self.taken(other) == had and time.monotonic() < began + 30:
            time.sleep(0.02)
        failover_s = time.monotonic() - began
        if failover_s > FAILOVER_S:
            self.world.fail(f"nothing new at {other} for {failover_s:.2f} s, allowed {FAILOVER_S}")
        step(self.world, "thaw", active)
        time.sleep(1)
        step(self.world, "cut_everything")
        time.sleep(0.5)  # what was under way
        had = {name: self.taken(name) for name in before}
        time.sleep(1)
        if had != {name: self.taken(name) for name in before}:
            self.world.fail("batches arrive though everything is cut: the stop would prove nothing")
        stop_s = max(step(self.world, "terminate", name) for name in ("e1", "r1a", "r1b"))
        if stop_s > STOP_S:
            self.world.fail(f"a stop took {stop_s:.2f} s, allowed {STOP_S}")
        return {"faults": 2, "failover_s": round(failover_s, 2), "stop_s": round(stop_s, 2)}


KINDS = {"random": RandomRun, "bad-input": BadInputRun, "crash": CrashRun,
         "tombstone": TombstoneRun, "failover": FailoverRun}


def settle(world, oracle):
    """No more faults, no more pushes: now all must become exact, and stay so."""
    world.heal()
    time.sleep(0.5)
    world.stop_pushing()
    world.note("drain")
    if oracle.drained():
        world.note("drained")
        time.sleep(1)  # what would count twice does so now
        for sentence in oracle.differences():
            world.fail(f"after all was exact: {sentence}")


def run(arguments):
    began = time.monotonic()
    plan = KINDS[arguments.kind](arguments)
    world = plan.world
    result = {"seed": arguments.seed, "imbalance": 0}
    oracle = Oracle(world)
    try:
        world.start()
        plan.begin()
        oracle.baseline()
        result.update(plan.faults())
        settle(world, oracle)
        plan.judge(oracle)
        if not world.failures and plan.afterwards():
            settle(world, oracle)
        oracle.check_processes()
        result["imbalance"] = oracle.imbalance()
        if result["imbalance"] != 0:
            world.fail(f"weir_ledger_imbalance is {result['imbalance']}")
    except Exception:  # a fault of the suite itself, too, must be told, and the processes stopped
        world.fail(traceback.format_exc())
    finally:
        world.close()
    oracle.check_tables()
    result.update(
        failures=world.failures, zmq_aborts=world.zmq_aborts, nodes=len(world.nodes),
        injected=world.bad_sent, counted=world.bad_counted,
        packets=sum(pusher.packets for pusher in world.pushers.values()),
        starts=sum(node.starts for node in world.nodes.values()),
        seconds=round(time.monotonic() - began, 1))
    return result


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--kind", choices=sorted(KINDS), default="random")
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--folder", required=True)
    parser.add_argument("--schedule")
    arguments = parser.parse_args()
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    os.makedirs(arguments.folder, exist_ok=True)
    print(json.dumps(run(arguments)), flush=True)


if __name__ == "__main__":
    sys.exit(main())
