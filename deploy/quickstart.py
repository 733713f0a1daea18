"""Runs an edge daemon, a region and a global tier on loopback and shows what they measure here.

Started by deploy/quickstart, which builds first. Standard library only.
"""
import ctypes
import http.server
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.parse
import urllib.request

BIN = os.path.join(os.getcwd(), "build/release/bin")
REGION_HTTP, GLOBAL_HTTP = "http://127.0.0.1:7480", "http://127.0.0.1:7580"
PORTS = {"region": 7401, "region http": 7480, "global": 7501, "global http": 7580, "StatsD": 8125}
# Production widths are 60 s -> 5 m -> 1 h; these let a first look end in two minutes.
WINDOWS = {"edge": "5s", "region": "15s", "global": "60s"}
PRCTL, PR_SET_PDEATHSIG = ctypes.CDLL(None).prctl, 1
LATENCY = "http_server_request_duration_seconds"


def configurations(folder):
    region_in, global_in = PORTS["region"], PORTS["global"]
    return {
        "weir-global": f"""
tier: global
name: global
listen: tcp://127.0.0.1:{global_in}
http: 127.0.0.1:{PORTS["global http"]}
data_dir: {folder}/global
windows: {{in: {WINDOWS["region"]}, out: {WINDOWS["global"]}}}
close_after: 3s
flush_every: 2s
""",
        "weir-region": f"""
tier: region
name: here
listen: tcp://127.0.0.1:{region_in}
upstream: tcp://127.0.0.1:{global_in}
http: 127.0.0.1:{PORTS["region http"]}
data_dir: {folder}/region
windows: {{in: {WINDOWS["edge"]}, out: {WINDOWS["region"]}}}
drop_labels: [host]
add_labels: {{region: here}}
close_after: 3s
flush_every: 2s
""",
        "weir-daemon": f"""
host: {socket.gethostname()}
data_dir: {folder}/daemon
window: {WINDOWS["edge"]}
flush_every: 1s
upstream: tcp://127.0.0.1:{region_in}
requests: {{enabled: true}}
profile: {{enabled: true, hz: 49}}
statsd: {{enabled: true, udp: 127.0.0.1:{PORTS["StatsD"]}, unix: {folder}/statsd.sock}}
""",
    }


def ask(url, path, **parameters):
    full = url + path + "?" + urllib.parse.urlencode(parameters)
    with urllib.request.urlopen(full, timeout=10) as answer:
        return json.load(answer)


def value(expression):
    """The first sample of an expression at global, or None."""
    try:
        result = ask(GLOBAL_HTTP, "/api/v1/query", query=expression)["data"]["result"]
        if not result:
            return None
        if "histogram" in result[0]:
            return float(result[0]["histogram"][1]["count"])
        return float(result[0]["value"][1])
    except (OSError, urllib.error.URLError, ValueError, KeyError):
        return None


def status(url):
    try:
        return ask(url, "/api/v1/status/weir")["data"]
    except (OSError, urllib.error.URLError, ValueError, KeyError):
        return None


class Here(http.server.BaseHTTPRequestHandler):
    """A small real server, so that an idle machine has requests to measure too."""
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        busy_until = time.perf_counter() + 0.002
        while time.perf_counter() < busy_until:
            pass
        self.send_response(503 if self.path == "/fail" else 200)
        self.send_header("Content-Length", "3")
        self.end_headers()
        self.wfile.write(b"ok\n")

    def log_message(self, *unused):
        pass


def demo_traffic(stop):
    """Requests every 50 ms to our own server; one in twenty fails. Said on the screen."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Here)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    n = 0
    while not stop.wait(0.05):
        n += 1
        path = "/fail" if n % 20 == 0 else f"/item/{n % 500}"
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{server.server_port}{path}", timeout=5).read()
        except OSError:
            pass  # the 503s we asked for
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
            out.sendto(b"quickstart.beats:1|c", ("127.0.0.1", PORTS["StatsD"]))
    server.shutdown()


def found(region):
    """What the edge can see here and what it cannot, with the remedy."""
    lines = []
    for source in region["sources"]:
        for c in source["collectors"]:
            line = f"  {c['name']:<10} {c['state']}"
            if c["reason"]:
                line += f": {c['reason']}"
            lines.append(line)
            if c["fix"]:
                lines.append(f"  {'':<10} fix: {c['fix']}")
    return "\n".join(lines)


def weir(*arguments):
    return subprocess.run([os.path.join(BIN, "weir"), *arguments], capture_output=True, text=True,
                          timeout=60)


def answers():
    by_service = "sum by (service) ({}(" + LATENCY + "[1m]))"
    commands = [
        ["query", f"histogram_count({by_service.format('rate')})"],
        ["query", f"histogram_quantile(0.99, {by_service.format('increase')})"],
        ["query", "sum(increase(quickstart_beats[10m]))"],
        ["anomalies", "--since", "10m"],
        ["status"],
    ]
    for arguments in commands:
        shown = " ".join(f"'{a}'" if " " in a or "(" in a else a for a in arguments)
        print(f"\n$ weir {shown}")
        done = weir(*arguments)
        print((done.stdout + done.stderr).rstrip())
    done = weir("flamegraph", "--since", "10m", "--format", "folded")
    if done.returncode == 0:
        stacks = sorted((line.rsplit(" ", 1) for line in done.stdout.splitlines()),
                        key=lambda s: -int(s[1]))[:5]
        print("\n$ weir flamegraph --since 10m --format folded | sort | head -5")
        for stack, ns in stacks:
            frames = stack.split(";")
            short = ";".join(frames[:1] + ["…"] + frames[-2:]) if len(frames) > 3 else stack
            print(f"{short[:66]} {int(ns) / 1e6:.0f} ms")
    else:
        print("\nno CPU profile: " + done.stderr.strip())


def main():
    once = "--once" in sys.argv
    for name, port in PORTS.items():
        kind = socket.SOCK_DGRAM if name == "StatsD" else socket.SOCK_STREAM
        with socket.socket(socket.AF_INET, kind) as probe:
            if kind == socket.SOCK_STREAM:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                print(f"quickstart: port {port} ({name}) is in use here; is another Weir running? "
                      "Stop it and try again.", file=sys.stderr)
                return 1
    folder = tempfile.mkdtemp(prefix="weir-quickstart-")
    children, stop = {}, threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, interrupt)
    code = 0
    try:
        for name, text in configurations(folder).items():
            path = f"{folder}/{name}.yaml"
            os.makedirs(f"{folder}/{name.removeprefix('weir-')}", exist_ok=True)
            with open(path, "w") as out:
                out.write(text.lstrip("\n"))
            program = "weir-daemon" if name == "weir-daemon" else "weir-aggregator"
            with open(f"{folder}/{name}.log", "wb") as log:
                children[name] = subprocess.Popen([os.path.join(BIN, program), "--config", path],
                                                  stdout=log, stderr=log, start_new_session=True,
                                                  preexec_fn=die_with_parent)
        print(f"edge {WINDOWS['edge']} -> region {WINDOWS['region']} -> global {WINDOWS['global']} "
              "windows (shortened; production: 60s -> 5m -> 1h)")
        print(f"logs and data: {folder}")
        threading.Thread(target=demo_traffic, args=(stop,), daemon=True).start()

        def reported():
            region = status(REGION_HTTP)
            return region if region and any(s["collectors"] for s in region["sources"]) else None
        region = watch(children, folder, reported, 60, "the edge to report")
        seen_since = None  # when pushed input was first seen at global
        print("\nfound on this host:\n" + found(region))
        print("\nsome traffic is made here (20 requests/s to a small server), so there is input even "
              "on an idle machine")

        def sealed():
            nonlocal seen_since
            top = status(GLOBAL_HTTP)
            beats = value("sum(increase(quickstart_beats[10m]))")
            if top and sys.stderr.isatty():
                requests = value(f"histogram_count(sum(rate({LATENCY}[1m])))")
                print(f"\r  global: {beats or 0:.0f} pushed, {requests or 0:.1f} requests/s; waiting for the "
                      f"{WINDOWS['global']} window to seal ", end="", file=sys.stderr)
            if not top or not beats:
                return None
            seen_since = seen_since or top["now"]
            return top if top["widths"][-1]["closed_until"] > seen_since else None
        watch(children, folder, sealed, 240, "the global tier to seal a rollup")
        if sys.stderr.isatty():
            print(file=sys.stderr)
        print("the global tier has sealed a rollup of real input; its answers:")
        answers()
        page = os.path.join(os.getcwd(), "build/quickstart-flamegraph.html")
        if weir("flamegraph", "--since", "10m", "-o", page).returncode == 0:
            print(f"\nflame graph: {page}")
        if not once:
            live(children, folder)
    except KeyboardInterrupt:
        print("\nstopping")
    except Failed as error:
        print(f"\nquickstart: {error}", file=sys.stderr)
        code = 1
    finally:
        # A second Ctrl-C must not leave half of them running.
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        stop.set()
        for name in ("weir-daemon", "weir-region", "weir-global"):
            child = children.get(name)
            if child is None:
                continue
            child.terminate()
            try:
                child.wait(10)
            except subprocess.TimeoutExpired:
                child.kill()
                print(f"quickstart: {name} had to be killed", file=sys.stderr)
                code = 1
        if code == 0:
            shutil.rmtree(folder, ignore_errors=True)
        else:
            print(f"quickstart: logs are kept in {folder}", file=sys.stderr)
    return code


class Failed(Exception):
    pass


def interrupt(*_):
    raise KeyboardInterrupt


def die_with_parent():
    """In the child: SIGTERM when this script is gone, however it went."""
    PRCTL(PR_SET_PDEATHSIG, signal.SIGTERM)


def watch(children, folder, condition, seconds, what):
    """Waits for condition(); fails with the log's end when a process dies or time runs out."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        for name, child in children.items():
            if child.poll() is not None:
                with open(f"{folder}/{name}.log", errors="replace") as log:
                    raise Failed(f"{name} ended with {child.returncode}:\n" + "".join(log.readlines()[-15:]))
        got = condition()
        if got:
            return got
        time.sleep(0.5)
    raise Failed(f"gave up after {seconds} s waiting for {what}")


def live(children, folder):
    print("\ntry in another terminal:")
    for line in ("weir status", "weir query 'sum by (service, http_route) "
                 f"(increase({LATENCY}[5m]))'", "weir flamegraph --since 5m -o flame.html",
                 f"echo 'orders:1|c|#shop:eu' > /dev/udp/127.0.0.1/{PORTS['StatsD']}   (in bash)"):
        print("  " + (os.path.join(BIN, line) if line.startswith("weir") else line))
    print("Ctrl-C stops everything.\n")
    while True:
        watch(children, folder, lambda: True, 1, "")
        requests = value(f"histogram_count(sum(rate({LATENCY}[1m])))")
        p99 = value(f"histogram_quantile(0.99, sum(increase({LATENCY}[1m])))")
        line = (f"{time.strftime('%H:%M:%S')}  requests {requests or 0:.1f}/s"
                + (f", p99 {p99 * 1000:.2f} ms" if p99 is not None else ""))
        if sys.stdout.isatty():
            print("\r" + line.ljust(70), end="", flush=True)
        else:
            print(line, flush=True)
        time.sleep(2)


if __name__ == "__main__":
    sys.exit(main())
