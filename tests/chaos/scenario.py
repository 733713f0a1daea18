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
from oracle import Oracle
from world import World

WARM_UP_S = 1.5  # of clean pushing before the faults
CRASHES_S = 90   # in which every crash point must have been passed
FENCE_AFTER_S = 2
FAILOVER_S, STOP_S = 4.0, 2.0  # at most (docs/testing.md)


def make_world(arguments, **shape):
    fence = f"fence_after: {FENCE_AFTER_S}s\n"
    return World(arguments.folder, arguments.seed, edge_extra=fence, region_extra=fence,
                 global_extra=fence, **shape)


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
        """At which passage; nobody is fenced more than once between two crashes."""
        return 1 if ".fence" in point else self.chance.randrange(1, 4)

    def faults(self):
        nodes = self.world.nodes.values()
        total = len(nodes) * len(crash_points.DATABASE)
        self.give_up("while its database was new")
        for node in nodes:
            node.crashes = [f"{point}:{self.nth(point)}"
                            for point in crash_points.POINTS[node.tier]]
            total += len(node.crashes)
        for name in self.world.nodes:
            step(self.world, "kill", name)
            step(self.world, "run_again", name)
        deadline, turn = time.monotonic() + CRASHES_S, 0
        while any(node.crashes for node in nodes) and time.monotonic() < deadline:
            self.disturb(turn)
            turn += 1
        self.give_up(f"in {CRASHES_S} s")
        return {"faults": total}

    def give_up(self, when):
        for node in self.world.nodes.values():
            for point in node.crashes:
                self.world.fail(f"{node.name} never died at {point} {when}")
            node.crashes = []

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


KINDS = {"random": RandomRun, "bad-input": BadInputRun, "crash": CrashRun, "failover": FailoverRun}


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
        time.sleep(WARM_UP_S)
        oracle.baseline()
        result.update(plan.faults())
        settle(world, oracle)
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
