"""One run of the chaos suite, inside its own network and mount namespace (tests/chaos/run starts
it). Writes everything to --folder and prints one JSON object: the result."""
import argparse
import json
import os
import subprocess
import sys
import time
import traceback

import schedule
from oracle import Oracle
from world import World

WARM_UP_S = 1.5  # of clean pushing before the faults


def shape_for_schedule(world):
    return {"nodes": list(world.nodes), "links": list(world.proxies.proxies),
            "aggregators": list(world.http), "regions": world.regions}


def play(world, steps):
    began = time.monotonic()
    for at, step, *arguments in steps:
        time.sleep(max(0.0, began + at - time.monotonic()))
        world.note(" ".join([step, *map(str, arguments)]))
        getattr(world, step)(*arguments)


def random_run(arguments):
    world = World(arguments.folder, arguments.seed, **schedule.shape_of(arguments.seed))
    steps = schedule.draw(arguments.seed, shape_for_schedule(world))
    if arguments.schedule:
        with open(arguments.schedule) as text:
            steps = json.load(text)
    with open(f"{arguments.folder}/schedule.json", "w") as out:
        out.write("[" + ",\n ".join(json.dumps(step) for step in steps) + "]\n")
    return world, steps


def run(arguments):
    result = {"seed": arguments.seed, "kind": arguments.kind, "failures": [], "imbalance": 0}
    began = time.monotonic()
    world, steps = random_run(arguments)
    oracle = Oracle(world)
    try:
        world.start()
        time.sleep(WARM_UP_S)
        oracle.baseline()
        play(world, steps)
        world.heal()
        time.sleep(0.5)
        world.stop_pushing()
        world.note("drain")
        if oracle.drained():
            world.note("drained")
            time.sleep(1)  # what would count twice does so now
            for sentence in oracle.differences():
                world.fail(f"after all was exact: {sentence}")
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
        failures=world.failures, zmq_aborts=world.zmq_aborts, faults=len(steps), nodes=len(world.nodes),
        packets=sum(pusher.packets for pusher in world.pushers.values()),
        starts=sum(node.starts for node in world.nodes.values()),
        seconds=round(time.monotonic() - began, 1))
    return result


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--kind", default="random")
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--folder", required=True)
    parser.add_argument("--schedule")
    arguments = parser.parse_args()
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    os.makedirs(arguments.folder, exist_ok=True)
    print(json.dumps(run(arguments)), flush=True)


if __name__ == "__main__":
    sys.exit(main())
