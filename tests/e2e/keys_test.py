"""Keys come and are replaced while pushes go on (docs/security.md, "Turning keys on" and "Replacing a
key"): three tiers that ran without keys get them, then an edge's key and the region's are replaced with
two valid ones. Every push is at global in the end, and nothing of it is a tombstone."""
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time

from harness import BIN, free_port, wait_for

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../chaos"))
from oracle import Oracle  # noqa: E402
from world import World, metrics, status  # noqa: E402

EDGES = ("e1", "e2")
UNKNOWN = 'weir_transport_handshakes_refused_total{reason="unknown_key"}'


def ports():
    while True:
        yield free_port()


class Keys:
    """What an operator does on the hosts of a world."""

    def __init__(self, world):
        self.world = world
        self.plain = {}  # configurations without keys and upstream
        self.endpoint = {}
        for name, node in world.nodes.items():
            with open(f"{world.folder}/{name}.yaml") as config:
                lines = config.readlines()
            upstream = [line for line in lines if line.startswith("upstream: ")]
            self.plain[name] = "".join(line for line in lines if line not in upstream)
            self.endpoint[name] = upstream[0].split()[1] if upstream else ""
            if node.tier != "edge":
                os.mkdir(self.allow(name))

    def dir(self, name):
        return f"{self.world.folder}/{name}.keys"

    def allow(self, name):
        return f"{self.world.folder}/{name}.allow"

    def weir(self, *arguments):
        return subprocess.run([os.path.join(BIN, "weir"), "keys", *arguments], check=True,
                              capture_output=True, text=True).stdout

    def source(self, name):
        """As its log says at every start."""
        said = f"{name} is source "
        return wait_for(f"{name} to say its source", lambda: next(
            (line.split(said)[1].strip() for line in self.world.nodes[name].tail(1000).splitlines()
             if said in line), None))

    def make(self, name, directory):
        """A pair that carries the source id; its public key."""
        self.weir("new", "--role", self.world.nodes[name].tier, "--source", self.source(name), "--dir",
                  directory)
        return self.weir("show", "--dir", directory).split()[0]

    def list(self, host, file, directory):
        """The pair's line into a host's allow.d: written beside, renamed, read again."""
        path = f"{self.allow(host)}/{file}.pub"
        shutil.copyfile(f"{directory}/host.pub", path + ".new")
        os.rename(path + ".new", path)
        self.world.nodes[host].signal(signal.SIGHUP)

    def unlist(self, host, file):
        os.unlink(f"{self.allow(host)}/{file}.pub")
        self.world.nodes[host].signal(signal.SIGHUP)
        wait_for(f"{host}'s allow-list", lambda: metrics(self.world.url(host))["weir_allow_list_keys"]
                 == len(os.listdir(self.allow(host))))

    def configure(self, name, server_keys=()):
        """Keys, and the keys of the tier above, into its configuration; and a look at all of it."""
        tier = self.world.nodes[name].tier
        allow = f", allow: {self.allow(name)}" if tier != "edge" else ""
        text = self.plain[name] + f"keys: {{dir: {self.dir(name)}{allow}}}\n"
        if self.endpoint[name]:
            pinned = ", ".join(f"'{key}'" for key in server_keys)
            text += f"upstream: {{endpoint: '{self.endpoint[name]}', server_keys: [{pinned}]}}\n"
        with open(f"{self.world.folder}/{name}.yaml", "w") as config:
            config.write(text)
        self.weir("check", "--dir", self.dir(name),
                  *(["--allow", self.allow(name)] if tier != "edge" else []))
        subprocess.run([*self.world.nodes[name].argv[-3:], "--check"], check=True,
                       capture_output=True)

    def replace(self, name, directory):
        """The new pair in place of the old one, and a new start."""
        self.world.terminate(name)
        shutil.rmtree(self.dir(name))
        os.rename(directory, self.dir(name))
        self.start(name)

    def restart(self, name):
        self.world.terminate(name)
        self.start(name)

    def start(self, name):
        self.world.run_again(name)
        if name in self.world.http:
            self.world.wait_ready(name)


def batches(world, tier, name):
    """What the tier has committed of this source."""
    return sum(source["batches"] for source in status(world.url(tier))["sources"]
               if source["name"] == name)


def flows(world, tier, name):
    """Two more batches: one might have been under way."""
    before = batches(world, tier, name)
    wait_for(f"more of {name} at {tier}", lambda: batches(world, tier, name) >= before + 2)


def turn_on(world, keys):
    public = {name: keys.make(name, keys.dir(name)) for name in world.nodes}
    for name, above in (("r1a", "g"), ("e1", "r1a"), ("e2", "r1a")):
        shutil.copyfile(f"{keys.dir(name)}/host.pub", f"{keys.allow(above)}/{name}.pub")
    for name, pinned in (("g", []), ("r1a", [public["g"]]), *((e, [public["r1a"]]) for e in EDGES)):
        keys.configure(name, pinned)
    for name in ("g", "r1a", *EDGES):
        keys.restart(name)
    return public


def replace_edge(world, keys):
    keys.make("e1", keys.dir("e1.next"))
    keys.list("r1a", "e1.next", keys.dir("e1.next"))
    keys.replace("e1", keys.dir("e1.next"))
    flows(world, "r1a", "e1")
    keys.unlist("r1a", "e1")
    flows(world, "r1a", "e1")


def replace_region(world, keys, public):
    new = keys.make("r1a", keys.dir("r1a.next"))
    for edge in EDGES:
        keys.configure(edge, [public["r1a"], new])
        keys.restart(edge)
    keys.list("g", "r1a.next", keys.dir("r1a.next"))
    keys.replace("r1a", keys.dir("r1a.next"))
    for edge in EDGES:  # with their second key
        flows(world, "r1a", edge)
    for edge in EDGES:
        keys.configure(edge, [new])
        keys.restart(edge)
    flows(world, "g", "r1a")
    keys.unlist("g", "r1a")
    flows(world, "g", "r1a")


def main():
    folder = tempfile.mkdtemp(prefix="weir-keys-")
    world = World(folder, edges=len(EDGES), ports=ports())
    oracle = Oracle(world)
    try:
        world.start()
        keys = Keys(world)
        time.sleep(2)  # without keys first
        public = turn_on(world, keys)
        for tier, name in (("r1a", "e1"), ("r1a", "e2"), ("g", "r1a")):
            flows(world, tier, name)
        replace_edge(world, keys)
        replace_region(world, keys, public)
        world.stop_pushing()
        assert oracle.drained(), world.failures
        merged, lost = oracle.found()
        assert merged == oracle.expected() and not lost, (merged, lost)
        assert oracle.imbalance() == 0
        for name in ("g", "r1a"):  # the start-up's own stranger, nobody else
            assert metrics(world.url(name))[UNKNOWN] == 1, metrics(world.url(name))
        print(f"{sum(merged.values())} pushed by {len(EDGES)} edges, at global, with keys turned on and "
              "two of them replaced", flush=True)
    finally:
        world.close()
    assert not world.failures, world.failures
    shutil.rmtree(folder)  # a failed run keeps its logs


if __name__ == "__main__":
    sys.exit(main())
