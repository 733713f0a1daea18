"""A world: edges, regions of one or more aggregators and one global tier as real processes on
loopback, a proxy on every link between them, pushers that know exactly what they sent, and a
supervisor that starts again what dies. Windows last seconds, so a run takes 10 to 30 s.

Threads: the run's own thread calls World; pushers, the supervisor and the proxies have their own.
"""
import contextlib
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import threading
import time

from harness import BIN, Process, aggregator_yaml, daemon_yaml, get, hold_socket, wait_for
from netfilter import Netfilter
from proxy import Proxy, ProxyThread

FINE, MIDDLE, COARSE = 1, 5, 10  # s: windows of edges, of regions upwards, of global
FLUSH = "200ms"
# Every pushed value is a multiple of this, far beyond all that the processes count of themselves:
# so the mass of a lost batch says how much of the pushes was in it.
UNIT = 1 << 20
FIRST_PORT = 21000
SMALL_DISK_MIB = 420  # the reserve, three steps of growth (common/disk_budget.h) and a little
METRIC = "chaos_units"
LANES = ["0", "1", "2"]
# What counts a bad message, and what of it honest peers cause in troubled times.
BAD_COUNTERS = ("weir_intake_rejected_total", "weir_intake_duplicates_total",
                "weir_transport_bad_frames_total", "weir_transport_giant_messages_total")
HONEST = ("duplicates", "no_hello", "store_full", "overload", "store_retry", "no_epoch", "target_epoch")
NOBODY_WELCOME = 3  # exit code of inject: it has sent nothing
MAX_FAILURES = 20  # then what dies stays dead


def metrics(url):
    """The numbers of /metrics, by their full series name."""
    status, text = get(url, "/metrics")
    assert status == 200, text
    lines = (line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    return {name: float(value) for name, value in lines}


def status(url):
    return json.loads(get(url, "/api/v1/status/weir")[1])["data"]


class Pusher(threading.Thread):
    """Counter increments for one edge, stamped with their second; what the socket took is taken.
    Each packet has three of the lanes; many with long names make large batches."""

    def __init__(self, edge, path, seed, rate, lanes):
        super().__init__(daemon=True, name=f"push-{edge}")
        self.edge, self.path, self.rate, self.lanes = edge, path, rate, lanes
        self.chance = random.Random(f"{seed}/push/{edge}")
        self.stopping = threading.Event()
        self.pushed = {}  # second -> sum
        self.packets = 0

    def run(self):
        out = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        out.connect(self.path)
        out.settimeout(0.2)
        while not self.stopping.is_set():
            second = int(time.time())
            values = {lane: self.chance.randrange(1, 1000) * UNIT
                      for lane in self.chance.sample(self.lanes, 3)}
            packet = "\n".join(f"{METRIC}:{value}|c|#lane:{lane}|T{second}"
                               for lane, value in values.items()).encode()
            if self._send(out, packet):
                self.pushed[second] = self.pushed.get(second, 0) + sum(values.values())
                self.packets += 1
            time.sleep(1 / self.rate)

    def _send(self, out, packet):
        while not self.stopping.is_set():
            try:
                out.send(packet)
                return True
            except TimeoutError:
                continue  # the queue is full: the daemon is dead or stopped
        return False


class Node(Process):
    """One process under supervision."""

    def __init__(self, tier, name, argv, folder):
        super().__init__(name, argv, f"{folder}/{name}.log")
        self.tier = tier
        self.data_dir = f"{folder}/{name}"
        self.crashes = []  # names of crash points to pass, one after the other
        self.armed = None  # the one this process was started with
        self.wanted = False
        self.frozen = False
        self.starts = 0

    def launch(self):
        """Starts it, armed with its next crash point."""
        self.armed = self.crashes[0] if self.crashes else None
        environment = dict(os.environ)
        if self.armed:
            environment["WEIR_CRASH"] = self.armed
        self.popen["env"] = environment
        self.starts += 1
        self.wanted, self.frozen = True, False
        with open(self.log, "a") as log:
            log.write(f"--- start {self.starts}, WEIR_CRASH={self.armed or ''} ---\n")
        self.start()

    def signal(self, number):
        if self.alive():
            os.kill(self.child.pid, number)

    def died_at_its_point(self):
        """Whether it said so itself; any other SIGKILL is a failure."""
        last = self.tail(200).rsplit("--- start ", 1)[-1]
        return f"crash point {self.armed.split(':')[0]}\n" in last

    def stop(self, timeout=10):
        """One that only just began may not have blocked its signals yet; it has a second for that,
        whatever its database says."""
        deadline = time.monotonic() + 1
        while self.alive() and time.monotonic() < deadline and not self.hears_sigterm():
            time.sleep(0.01)
        return super().stop(timeout)

    def hears_sigterm(self):
        with contextlib.suppress(OSError), open(f"/proc/{self.child.pid}/status") as status:
            blocked = next(line.split()[1] for line in status if line.startswith("SigBlk:"))
            return bool(int(blocked, 16) >> (signal.SIGTERM - 1) & 1)
        return False

    def usage(self):
        """(open descriptors, resident KiB)"""
        with open(f"/proc/{self.child.pid}/status") as status:
            rss = next(int(line.split()[1]) for line in status if line.startswith("VmRSS:"))
        return len(os.listdir(f"/proc/{self.child.pid}/fd")), rss


class World:
    def __init__(self, folder, seed=0, edges=2, regions=1, aggregators=1, rate=100, edge_extra="",
                 region_extra="", global_extra="", ports=None, lanes=LANES):
        self.folder, self.seed = folder, seed
        os.makedirs(folder, exist_ok=True)
        # Fixed, so that edges prefer the same aggregator in a replay; a run has its own network.
        self.ports = ports or iter(range(FIRST_PORT, FIRST_PORT + 1000))
        self.proxies, self.netfilter = ProxyThread(), Netfilter()
        self.nodes, self.pushers = {}, {}
        self.listen, self.http = {}, {}
        self.zmq_aborts = 0
        self.calm = False  # no faults but bad messages: their counters are exact then
        self.injected = {}  # second -> honest sum among the bad messages
        self.unsure = {}    # the same, of what was not at the last tier when its sender forgot it
        self.bad_sent = self.bad_counted = 0
        self.failures = []  # sentences; empty: the run is good so far
        self.log_lock, self.lock = threading.Lock(), threading.RLock()
        self.began = time.monotonic()
        self._aggregator("global", "g", MIDDLE, COARSE, "", global_extra)
        self.regions = {f"r{number + 1}": [f"r{number + 1}{'abcdef'[which]}"
                                           for which in range(aggregators)]
                        for number in range(regions)}
        for region, names in self.regions.items():
            for name in names:
                extra = f"add_labels: {{region: {region}}}\n{region_extra}"
                self._aggregator("region", name, FINE, MIDDLE, self._link(name, "g"), extra)
        for number in range(edges):
            name = f"e{number + 1}"
            self._edge(name, list(self.regions.values())[number % regions], edge_extra)
            self.pushers[name] = Pusher(name, f"{folder}/{name}.sock", seed, rate, lanes)
        self.watching = threading.Event()
        self.supervisor = threading.Thread(target=self._supervise, daemon=True, name="supervisor")

    # --- building -----------------------------------------------------------------------------
    def _link(self, sender, receiver):
        """A proxy between the two; returns the endpoint for the sender."""
        proxy = Proxy(f"{sender}>{receiver}", next(self.ports), self.listen[receiver], self.seed)
        self.proxies.add(proxy)
        return f"tcp://127.0.0.1:{proxy.port}"

    def _aggregator(self, tier, name, window_in, window_out, upstream, extra):
        self.listen[name], self.http[name] = next(self.ports), next(self.ports)
        text = aggregator_yaml(tier, name, self.listen[name], self.http[name],
                               f"{self.folder}/{name}", f"{window_in}s", f"{window_out}s", upstream,
                               close_after="1s", flush=FLUSH, extra=extra)
        self._node(tier, name, "weir-aggregator", text)

    def _edge(self, name, aggregators, extra):
        upstreams = [self._link(name, aggregator) for aggregator in aggregators]
        text = daemon_yaml(name, f"{self.folder}/{name}", f"{FINE}s", FLUSH,
                           upstreams[0] if len(upstreams) == 1 else f"[{', '.join(upstreams)}]",
                           None, f"{self.folder}/{name}.sock", extra=extra)
        node = self._node("edge", name, "weir-daemon", text)
        hold_socket(node, f"{self.folder}/{name}.sock")

    def _node(self, tier, name, program, text):
        os.makedirs(f"{self.folder}/{name}", exist_ok=True)
        with open(f"{self.folder}/{name}.yaml", "w") as out:
            out.write(text)
        self.nodes[name] = Node(tier, name, [os.path.join(BIN, program), "--config",
                                             f"{self.folder}/{name}.yaml"], self.folder)
        return self.nodes[name]

    # --- life ---------------------------------------------------------------------------------
    def start(self):
        for node in self.nodes.values():
            node.launch()
        self.supervisor.start()
        for name in self.http:
            self.wait_ready(name)
        for name in sum(self.regions.values(), []):  # without an epoch nobody is welcome there
            wait_for(f"{name} to be welcome at g",
                     lambda: status(self.url(name))["upstream"]["connected"], 30)
        for pusher in self.pushers.values():
            pusher.start()

    def wait_ready(self, name):
        wait_for(f"{name} to be ready", lambda: get(self.url(name), "/-/ready")[0] == 200, 30)

    def url(self, name):
        return f"http://127.0.0.1:{self.http[name]}"

    def note(self, text):
        with self.log_lock, open(f"{self.folder}/events.log", "a") as log:
            log.write(f"{time.monotonic() - self.began:8.3f} {text}\n")

    def fail(self, text):
        self.note(f"FAILED {text}")
        self.failures.append(text)

    def _supervise(self):
        while not self.watching.wait(0.02):
            with self.lock:
                for node in self.nodes.values():
                    if node.wanted and not node.alive():
                        self._died(node)

    def _died(self, node):
        code = node.child.returncode
        if code == -signal.SIGKILL and node.armed and node.died_at_its_point():
            self.note(f"{node.name} crashed at {node.armed}")
            node.crashes.pop(0)
        elif code == -signal.SIGABRT and "(src/stream_engine_base.cpp:" in node.tail(3):
            # libzmq's own assertion; Restart=always is the answer (deploy/systemd).
            self.note(f"{node.name} died of libzmq: {node.tail(1).strip()}")
            self.zmq_aborts += 1
        else:
            self.fail(f"{node.name} exited with {code}: {node.tail(3)!r}")
        node.wanted = len(self.failures) < MAX_FAILURES
        if node.wanted:
            node.launch()

    def push_again(self, name):
        """After stop_pushing(): the edge's pusher goes on."""
        old = self.pushers[name]
        self.pushers[name] = Pusher(name, old.path, f"{self.seed}/again", old.rate,
                                    old.lanes)
        self.pushers[name].pushed, self.pushers[name].packets = old.pushed, old.packets
        self.pushers[name].start()

    def stop_pushing(self):
        for pusher in self.pushers.values():
            pusher.stopping.set()
        for pusher in self.pushers.values():
            if pusher.is_alive():
                pusher.join(5)

    def close(self):
        """Stops everything, edges first; a stop that is not clean is a failure."""
        self.watching.set()
        if self.supervisor.is_alive():
            self.supervisor.join()
        self.stop_pushing()
        for node in reversed(self.nodes.values()):
            if node.child is None:
                continue
            node.signal(signal.SIGCONT)
            try:
                code = node.stop()
                self._judge_stop(node, code)
            except AssertionError as error:
                self.fail(str(error))

    def _judge_stop(self, node, code):
        if code != 0:
            self.fail(f"{node.name} stopped with {code}: {node.tail(3)!r}")

    # --- faults -------------------------------------------------------------------------------
    def kill(self, name):
        node = self.nodes[name]
        with self.lock:
            node.wanted = False
            if node.alive():
                node.kill()

    def run_again(self, name):
        with self.lock:
            self.nodes[name].launch()

    def crash_at(self, name, points):
        """Starts it anew, to die at one after the other."""
        self.kill(name)
        self.nodes[name].crashes = list(points)
        self.run_again(name)

    def wait_crashes(self, seconds, disturb=lambda turn: time.sleep(0.1)):
        """Until every process has died at all its points; turn after turn something may help."""
        deadline, turn = time.monotonic() + seconds, 0
        while any(node.crashes for node in self.nodes.values()) and time.monotonic() < deadline:
            disturb(turn)
            turn += 1
        for node in self.nodes.values():
            for point in node.crashes:
                self.fail(f"{node.name} never died at {point} in {seconds} s")
            node.crashes = []

    def terminate(self, name):
        """SIGTERM, as an upgrade does; seconds it took."""
        node = self.nodes[name]
        with self.lock:
            node.wanted = False
            began = time.monotonic()
            self._judge_stop(node, node.stop())
            return time.monotonic() - began

    def freeze(self, name):
        self.nodes[name].frozen = True
        self.nodes[name].signal(signal.SIGSTOP)

    def thaw(self, name):
        self.nodes[name].signal(signal.SIGCONT)
        self.nodes[name].frozen = False

    def link(self, name, fault):
        self.proxies.set(name, fault)

    def port(self, name, fault):
        if fault == "clean":
            self.netfilter.clear(self.listen[name])
        else:
            self.netfilter.set(self.listen[name], fault)

    def cut_everything(self):
        """No packet reaches a tier, nor the proxies before them."""
        for proxy in self.proxies.proxies.values():
            self.netfilter.set(proxy.port, "drop")
        for port in self.listen.values():
            self.netfilter.set(port, "drop")

    def wipe(self, name):
        """The disk of a dead process is gone."""
        for entry in set(os.listdir(self.nodes[name].data_dir)) - {"filler"}:
            path = os.path.join(self.nodes[name].data_dir, entry)
            shutil.rmtree(path) if os.path.isdir(path) else os.unlink(path)

    def copy(self, name):
        """Of a dead process: what a backup would hold. An edge that did not stop cleanly has pushes
        in its journal that the living one will have sent: no copy of that."""
        node = self.nodes[name]
        if node.tier == "edge" and node.child.returncode != 0:
            return
        shutil.rmtree(f"{self.folder}/{name}.copy", ignore_errors=True)
        shutil.copytree(self.nodes[name].data_dir, f"{self.folder}/{name}.copy",
                        ignore=shutil.ignore_patterns("filler"))

    def has_copy(self, name):
        return os.path.isdir(f"{self.folder}/{name}.copy")

    def restore(self, name):
        self.wipe(name)
        shutil.copytree(f"{self.folder}/{name}.copy", self.nodes[name].data_dir,
                        dirs_exist_ok=True)

    def small_disk(self, name, size_mib=SMALL_DISK_MIB):
        """Before start(): the process's folder is a small file system."""
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size_mib}m", "chaos",
                        self.nodes[name].data_dir], check=True)

    def fill(self, name):
        """Takes every free byte of the process's disk."""
        with open(f"{self.nodes[name].data_dir}/filler", "wb", buffering=0) as filler:
            space = os.statvfs(self.nodes[name].data_dir)
            with contextlib.suppress(OSError):
                os.posix_fallocate(filler.fileno(), 0, space.f_bavail * space.f_frsize)
                filler.seek(0, os.SEEK_END)
                while filler.write(bytes(4096)) == 4096:
                    pass

    def unfill(self, name):
        path = f"{self.nodes[name].data_dir}/filler"
        if os.path.exists(path):
            os.unlink(path)

    def inject(self, name):
        """Every kind of bad message at once; each must be in exactly one counter."""
        width = MIDDLE if name == "g" else FINE
        url = self.url(name)
        # Without a way in, or without a disk, nothing would take the bad messages.
        self.port(name, "clean")
        self.unfill(name)
        self.wait_ready(name)
        before = metrics(url)
        done = subprocess.run([os.path.join(BIN, "inject"), f"tcp://127.0.0.1:{self.listen[name]}",
                               str(width)], capture_output=True, text=True, timeout=120)
        if done.returncode == NOBODY_WELCOME and not self.calm:
            return  # it is fenced, and has no way to the tier that would give it an epoch
        if done.returncode != 0:
            self.fail(f"inject into {name}: {done.stderr.strip()}")
            return
        said = json.loads(done.stdout)
        if self.calm and not said["at_last_tier"]:
            self.fail(f"an honest batch sent to {name} was not acknowledged by the last tier")
        sums = self.injected if said["at_last_tier"] else self.unsure
        sums[said["window"]] = sums.get(said["window"], 0) + said["pushed"]
        deadline = time.monotonic() + 5  # the status is a second old
        while True:
            after = metrics(url)
            faults, counted = self._judge_counters(name, said["sent"], before, after)
            if not faults or time.monotonic() > deadline:
                break
            time.sleep(0.2)
        for fault in faults:
            self.fail(fault)
        self.bad_sent += sum(said["sent"].values())
        self.bad_counted += counted

    def _judge_counters(self, name, sent, before, after):
        faults, total = [], 0
        for counter in sorted({*sent, *after}):
            if not counter.startswith(BAD_COUNTERS):
                continue
            want, have = sent.get(counter, 0), int(after.get(counter, 0) - before.get(counter, 0))
            # Honest peers, too, greet late, offer twice and meet a full store.
            honest = not self.calm and any(word in counter for word in HONEST)
            if have < want or have > want and not honest:
                faults.append(f"{name}: injected {want}, counted {have} in {counter}")
            total += min(want, have)
        return faults, total

    def heal(self):
        self.proxies.heal()
        self.netfilter.clear()
        for name, node in self.nodes.items():
            self.unfill(name)
            if node.frozen:
                self.thaw(name)
            if not node.wanted:
                self.run_again(name)
