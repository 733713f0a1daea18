"""Bad input of any kind gets one clear error or a named counter; the process lives and the good data
beside it counts."""
import json
import os
import random
import socket
import struct
import subprocess
import sys

from harness import BIN, Stack, get, wait_for


def check(folder, name, text):
    path = os.path.join(folder, name)
    with open(path, "w") as out:
        out.write(text)
    done = subprocess.run([os.path.join(BIN, "weir"), "check", "config", path],
                          capture_output=True, text=True, timeout=30)
    return done.returncode, done.stdout + done.stderr


def configuration(folder):
    good = "host: h\ndata_dir: /tmp/x\nupstream: tcp://127.0.0.1:1\n"
    code, text = check(folder, "good.yaml", good)
    assert code == 0, text
    for name, bad, line, word in (
            ("unknown.yaml", good + "profle: {enabled: true}\n", 4, "profile"),
            ("repeated.yaml", good + "host: again\n", 4, "host"),
            ("unit.yaml", good + "window: 60\n", 4, "60s")):
        code, text = check(folder, name, bad)
        assert code == 2, (name, code, text)
        assert f"{name}:{line}:" in text and word in text, text
        assert text.count(f"{name}:") == 1, f"one error, once: {text}"
        print(text.splitlines()[0], flush=True)
    # All mistakes at once.
    code, text = check(folder, "both.yaml", good + "window: 60\nprofle: 1\n")
    assert code == 2 and "both.yaml:4:" in text and "both.yaml:5:" in text, text


def pushed_lines(stack):
    bad = [b"", b"novalue", b"x:1", b"x:|c", b"x:abc|c", b"x:1|q", b"x:1|c|@2", b"x:1|c|@0", b"x:nan|g",
           b":1|c", b"x:-5|c", b"x:1|c|#" + b"t:" + b"v" * 5000, b"\xff\xfe:1|c", b"x:1e999|g"]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out:
        for line in bad:
            out.sendto(b"good.one:1|c\n" + line + b"\ngood.two:2|c", stack.unix)
    n = len(bad)
    wait_for("the good lines at global",
             lambda: stack.total("sum(increase(good_one[1h]))") == n
             and stack.total("sum(increase(good_two[1h]))") == 2 * n)
    malformed = wait_for("the malformed lines' counter", lambda: stack.total(
        'sum(increase(weir_dropped_total{where="statsd"}[1h]))'))
    print(f"{n} bad lines: {malformed} counted as malformed, {3 * n} good units counted", flush=True)
    assert malformed >= 9, malformed


def counters(stack):
    _, text = get(stack.region_url, "/api/v1/status/weir")
    return {k: v for k, v in json.loads(text)["data"]["counters"].items()
            if k.startswith(("weir_intake_rejected", "weir_transport_bad_frames"))}


def frames(stack):
    """Raw ZeroMQ frames by a hand-made ZMTP client: truncated, flipped, one too many."""
    before = sum(counters(stack).values())

    def talk(*messages):
        with socket.create_connection(("127.0.0.1", stack.region_in), 10) as s:
            s.sendall(b"\xff" + b"\0" * 8 + b"\x7f" + b"\x03\x00" + b"NULL".ljust(20, b"\0") + b"\0" * 32)
            need = 64
            while need:
                need -= len(s.recv(need))
            ready = b"\x05READY\x0bSocket-Type" + struct.pack(">I", 6) + b"DEALER"
            s.sendall(b"\x04" + bytes([len(ready)]) + ready)
            size = s.recv(2)[1]
            while size:
                size -= len(s.recv(size))
            for parts in messages:
                for i, part in enumerate(parts):
                    more = 1 if i + 1 < len(parts) else 0
                    s.sendall(bytes([more | 2]) + struct.pack(">Q", len(part)) + part)
            s.settimeout(0.5)
            try:
                while s.recv(65536):
                    pass
            except OSError:
                pass

    chance = random.Random(7)
    junk = [(bytes(chance.randrange(256) for _ in range(n)), b"") for n in (0, 1, 63, 64, 65)]
    junk.append((b"WTP1" + bytes(60), b"body"))
    junk.append((bytes(64), b"x", b"one frame too many"))
    junk.append((b"alone",))
    talk(*junk)
    wait_for("every bad frame in a counter",
             lambda: sum(counters(stack).values()) - before >= len(junk))
    after = counters(stack)
    assert sum(after.values()) - before == len(junk), (before, after)
    print(f"{len(junk)} bad messages, counted: { {k: v for k, v in after.items() if v} }", flush=True)


def main():
    with Stack() as stack:
        configuration(stack.folder)
        pushed_lines(stack)
        frames(stack)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out:
            out.sendto(b"after.all:5|c", stack.unix)
        wait_for("data after the bad frames",
                 lambda: stack.total("sum(increase(after_all[1h]))") == 5)
        for process in stack.processes.values():
            assert process.alive(), process.name


if __name__ == "__main__":
    sys.exit(main())
