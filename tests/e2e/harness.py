"""Runs real Weir processes for the end-to-end tests: an edge daemon, a region, a global tier.

Every test gets its own temporary folder and free loopback ports, so tests never meet. Nothing here
waits for time: wait_for polls a condition and fails with its last answer.
"""
import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request

BIN = os.environ.get("WEIR_BIN", os.path.join(os.getcwd(), "build/release/bin"))
SKIP = 77  # ctest shows this exit code as skipped


def skip(reason):
    """Ends the test as skipped; where the kernel must have the feature, as failed."""
    print(f"SKIP: {reason}", flush=True)
    sys.exit(1 if os.environ.get("WEIR_REQUIRE_KERNEL_TESTS") == "1" else SKIP)


def free_port(kind=socket.SOCK_STREAM):
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(what, condition, timeout=60.0):
    """Polls condition() until it is true and returns its value; fails with `what` otherwise."""
    deadline = time.monotonic() + timeout
    last = None
    while time.monotonic() < deadline:
        try:
            last = condition()
            if last:
                return last
        except (OSError, urllib.error.URLError, AssertionError) as error:
            last = error
        time.sleep(0.1)
    raise AssertionError(f"gave up after {timeout:.0f} s waiting for {what}; last: {last!r}")


def aggregator_yaml(tier, name, port, http_port, data_dir, window_in, window_out, upstream="",
                    close_after="1s", flush="500ms", extra=""):
    """A configuration of weir-aggregator on loopback; without an upstream it is the last tier."""
    return f"""tier: {tier}
name: {name}
listen: tcp://127.0.0.1:{port}
http: 127.0.0.1:{http_port}
data_dir: {data_dir}
windows: {{in: {window_in}, out: {window_out}}}
close_after: {close_after}
flush_every: {flush}
""" + (f"upstream: {upstream}\n" if upstream else "") + extra


def daemon_yaml(host, data_dir, window, flush, upstream, udp, unix, requests=False, profile=False,
                hz=49, statsd=True, extra=""):
    """A configuration of weir-daemon; upstream is one endpoint or a YAML list of them."""
    on = lambda flag: "true" if flag else "false"  # noqa: E731
    return f"""host: {host}
data_dir: {data_dir}
window: {window}
flush_every: {flush}
upstream: {upstream}
requests: {{enabled: {on(requests)}}}
profile: {{enabled: {on(profile)}, hz: {hz}}}
statsd:
  enabled: {on(statsd)}
  udp: {f"127.0.0.1:{udp}" if udp else '""'}
  unix: {unix}
{extra}"""


def hold_socket(daemon, path):
    """Binds the daemon's datagram socket here and hands it down, as systemd's socket units do: what
    arrives while the daemon is dead waits in the kernel. The process keeps the socket open."""
    held = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    held.bind(path)
    daemon.held = held
    daemon.popen = dict(pass_fds=[held.fileno()])
    # LISTEN_FDS as systemd passes it: descriptor 3, and LISTEN_PID is the process itself.
    daemon.argv = ["bash", "-c", f'exec 3<&{held.fileno()}; LISTEN_FDS=1 LISTEN_PID=$$ exec "$@"',
                   "bash", *daemon.argv]


class Process:
    """One Weir process with its log file."""

    def __init__(self, name, argv, log, prefix=(), **popen):
        self.name, self.argv, self.log = name, [*prefix, *argv], log
        self.popen = popen
        self.child = None

    def start(self):
        with open(self.log, "ab") as log:
            self.child = subprocess.Popen(self.argv, stdout=log, stderr=log, **self.popen)
        return self

    def alive(self):
        return self.child is not None and self.child.poll() is None

    def kill(self):
        self.child.kill()
        self.child.wait()

    def stop(self, timeout=10):
        """SIGTERM; returns the exit code."""
        if self.child is None:
            return None
        if self.child.poll() is None:
            self.child.send_signal(signal.SIGTERM)
            try:
                self.child.wait(timeout)
            except subprocess.TimeoutExpired:
                self.child.kill()
                self.child.wait()
                raise AssertionError(f"{self.name} did not stop within {timeout} s")
        return self.child.returncode

    def tail(self, lines=40):
        with contextlib.suppress(OSError):
            with open(self.log, errors="replace") as log:
                return "".join(log.readlines()[-lines:])
        return ""


class Stack:
    """The three tiers on loopback with short windows."""

    def __init__(self, daemon="", window="1s", region_out="5s", global_out="30s", flush="500ms",
                 close_after="1s", region="eu-1", host="edge-1", daemon_prefix=(),
                 requests=False, profile=False, hz=49, statsd=True):
        self.folder = tempfile.mkdtemp(prefix="weir-e2e-")
        self.window, self.region_name, self.host = window, region, host
        ports = [free_port() for _ in range(4)]
        self.region_in, self.region_http, self.global_in, self.global_http = ports
        self.udp = free_port(socket.SOCK_DGRAM)
        self.unix = os.path.join(self.folder, "statsd.sock")
        self.region_url = f"http://127.0.0.1:{self.region_http}"
        self.global_url = f"http://127.0.0.1:{self.global_http}"
        tiers = dict(close_after=close_after, flush=flush)
        configs = {
            "region": aggregator_yaml(
                "region", region, self.region_in, self.region_http, f"{self.folder}/region",
                window, region_out, f"tcp://127.0.0.1:{self.global_in}",
                extra=f"drop_labels: [host]\nadd_labels: {{region: {region}}}\n", **tiers),
            "global": aggregator_yaml("global", "global", self.global_in, self.global_http,
                                      f"{self.folder}/global", region_out, global_out, **tiers),
            "daemon": daemon_yaml(host, f"{self.folder}/daemon", window, flush,
                                  f"tcp://127.0.0.1:{self.region_in}", self.udp, self.unix,
                                  requests=requests, profile=profile, hz=hz, statsd=statsd,
                                  extra=daemon),
        }
        self.processes = {}
        for name, text in configs.items():
            os.makedirs(f"{self.folder}/{name}", exist_ok=True)
            path = f"{self.folder}/{name}.yaml"
            with open(path, "w") as out:
                out.write(text)
            program = "weir-daemon" if name == "daemon" else "weir-aggregator"
            self.processes[name] = Process(
                name, [os.path.join(BIN, program), "--config", path], f"{self.folder}/{name}.log",
                prefix=daemon_prefix if name == "daemon" else ())

    @property
    def daemon(self):
        return self.processes["daemon"]

    @property
    def region(self):
        return self.processes["region"]

    @property
    def top(self):
        return self.processes["global"]

    def __enter__(self):
        try:
            self.top.start()
            self.region.start()
            self.daemon.start()
            for url in (self.global_url, self.region_url):
                wait_for(f"{url} to be ready", lambda u=url: get(u, "/-/ready")[0] == 200, 30)
            if os.path.exists(self.unix) is False and "statsd:\n  enabled: true" in open(
                    f"{self.folder}/daemon.yaml").read():
                wait_for("the daemon's unix socket", lambda: os.path.exists(self.unix), 30)
            return self
        except BaseException:
            self.dump()
            self.close()
            raise

    def __exit__(self, kind, error, trace):
        if error is not None and not isinstance(error, SystemExit):
            self.dump()
        codes = self.close()
        if error is None:
            for name, code in codes.items():
                assert code in (0, None), f"{name} exited with {code}"

    def dump(self):
        for process in self.processes.values():
            print(f"--- {process.name} ---\n{process.tail()}", flush=True)

    def close(self):
        codes = {}
        for name in ("daemon", "region", "global"):
            codes[name] = self.processes[name].stop()
        if not os.environ.get("WEIR_KEEP"):
            shutil.rmtree(self.folder, ignore_errors=True)
        return codes

    # --- asking -------------------------------------------------------------------------------
    def total(self, expression, tier="global"):
        """The single integer an expression answers, 0 when nothing matches."""
        result = query(self.global_url if tier == "global" else self.region_url, expression)
        assert len(result) <= 1, result
        return number_of(result[0]) if result else 0

    def weir(self, *arguments, tier="global", check=True):
        """Runs the CLI against a tier and returns its standard output."""
        url = self.global_url if tier == "global" else self.region_url
        done = subprocess.run([os.path.join(BIN, "weir"), "--server", url, *arguments],
                              capture_output=True, text=True, timeout=120)
        if check and done.returncode != 0:
            raise AssertionError(f"weir {' '.join(arguments)} exited {done.returncode}: {done.stderr}")
        return done.stdout


def get(url, path, parameters=None):
    """(status, body text) of a GET; HTTP errors are answers."""
    full = url + path + ("?" + urllib.parse.urlencode(parameters) if parameters else "")
    try:
        with urllib.request.urlopen(full, timeout=30) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def query(url, expression):
    status, text = get(url, "/api/v1/query", {"query": expression})
    body = json.loads(text)
    assert status == 200 and body["status"] == "success", text
    return body["data"]["result"]


def exact_integer(text):
    value = float(text)
    assert value == int(value) and abs(value) < 2**53, f"{text} is not an exact integer"
    return int(value)


def number_of(row):
    """A sample's value; of a histogram its count."""
    if "histogram" in row:
        return exact_integer(row["histogram"][1]["count"])
    return exact_integer(row["value"][1])


def by_label(result, label):
    return {row["metric"].get(label, ""): number_of(row) for row in result}


def percentile(values, share):
    """The smallest value with at least `share` of all at or below it: the sketch's own rule."""
    ordered = sorted(values)
    return ordered[max(0, -(-int(share * 1000) * len(ordered) // 1000) - 1)]


class Nginx:
    """Debian's nginx on free ports: one to measure, one for its own counters."""

    def __init__(self, folder, extra="", workers=1):
        self.folder = os.path.join(folder, "nginx")
        os.makedirs(self.folder + "/www", exist_ok=True)
        os.chmod(folder, 0o755)
        os.chmod(self.folder, 0o755)
        self.port, self.status_port = free_port(), free_port()
        self.asked = 0
        conf = f"""
daemon off; worker_processes {workers}; pid {self.folder}/pid; error_log {self.folder}/error.log;
user root;
events {{ worker_connections 1024; }}
http {{
  access_log off; client_body_temp_path {self.folder}/body; proxy_temp_path {self.folder}/proxy;
  fastcgi_temp_path {self.folder}/fcgi; uwsgi_temp_path {self.folder}/uwsgi;
  scgi_temp_path {self.folder}/scgi; keepalive_requests 1000000000; sendfile on;
  client_max_body_size 10m;
  server {{
    listen 127.0.0.1:{self.port};
    location = /hello {{ return 200 "hello\n"; }}
    location = /fail {{ return 503; }}
    location = /upload {{ client_body_buffer_size 1m; proxy_pass http://127.0.0.1:{self.status_port}/sink; }}
    location /files/ {{ alias {self.folder}/www/; }}
    {extra}
  }}
  server {{
    listen 127.0.0.1:{self.status_port};
    location = /status {{ stub_status; }}
    location = /sink {{ return 200 "stored\n"; }}
  }}
}}
"""
        with open(self.folder + "/nginx.conf", "w") as out:
            out.write(conf)
        self.process = Process("nginx", ["nginx", "-p", self.folder, "-c",
                                         self.folder + "/nginx.conf"], self.folder + "/log")

    def __enter__(self):
        self.process.start()
        wait_for("nginx", lambda: socket.create_connection(("127.0.0.1", self.port), 1).close()
                 is None, 15)
        return self

    def __exit__(self, *unused):
        self.process.stop()

    def requests(self):
        """nginx's own count of requests, without the ones this method makes."""
        self.asked += 1
        _, text = get(f"http://127.0.0.1:{self.status_port}", "/status")
        return int(text.split("\n")[2].split()[2]) - self.asked
