"""A region's disk is destroyed while its edges push: kill -9 and an empty data_dir, several times, once
with the machine gone for good. Its edges go on at the other aggregator; the last tier fences the lost
one, says what of it had arrived, and the rest is brought again: exact per edge and window."""
import os
import shutil
import sys
import tempfile
import time

from harness import free_port, wait_for

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../chaos"))
from oracle import Oracle  # noqa: E402
from world import World, metrics  # noqa: E402

EDGES = 3
FENCE_AFTER = "2s"


def ports():
    while True:
        yield free_port()


def main():
    folder = tempfile.mkdtemp(prefix="weir-failover-")
    world = World(folder, seed=4, edges=EDGES, aggregators=2, ports=ports(),
                  edge_extra=f"fence_after: {FENCE_AFTER}\n",
                  region_extra=f"fence_after: {FENCE_AFTER}\n",
                  global_extra=f"fence_after: {FENCE_AFTER}\n")
    oracle = Oracle(world)
    try:
        world.start()
        time.sleep(2)
        for name in ("r1a", "r1b", "r1a", "r1b"):
            world.kill(name)
            world.wipe(name)
            time.sleep(0.5)
            world.run_again(name)
            world.wait_ready(name)
            time.sleep(2)  # pushes go on
        # Now one that does not come back: nobody may wait for it.
        world.kill("r1a")
        world.wipe("r1a")
        time.sleep(3)
        world.stop_pushing()
        wait_for("all that was pushed to be at global without r1a",
                 lambda: not oracle.differences(), 60)
        world.run_again("r1a")
        assert oracle.drained(), world.failures
        fences = metrics(world.url("g")).get("weir_store_fences_total", 0)
        assert fences >= 1, metrics(world.url("g"))
        assert oracle.imbalance() == 0
        pushed = sum(oracle.expected().values())
        print(f"{pushed} pushed by {EDGES} edges, at global, after 5 lost disks and {fences:.0f} fences",
              flush=True)
    finally:
        world.close()
    assert not world.failures, world.failures
    shutil.rmtree(folder)  # a failed run keeps its logs


if __name__ == "__main__":
    sys.exit(main())
