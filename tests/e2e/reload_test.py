"""SIGHUP while a process starts does not end it: it waits until the process can read its files again.
From its first line on, that is: before, while the program is loaded, nobody can hold a signal."""
import os
import shutil
import signal
import sys
import tempfile
import time

from harness import BIN, Process, aggregator_yaml, daemon_yaml, free_port, get, wait_for

STARTS = 20
# What they say when they have read their files again.
SAID = ("SIGHUP: the allow-list, limits and fences are read again", " reloaded ")


def said(process):
    log = process.tail(1000)
    return sum(log.count(words) for words in SAID)


def start_and_reload(process, config, text, ready):
    """The configuration is a pipe at first: the process has begun and cannot go on. Then signals come
    all the time until it is ready."""
    os.mkfifo(config)
    process.start()
    pipe = os.open(config, os.O_WRONLY)  # when it has opened the other end
    before = said(process)
    os.kill(process.child.pid, signal.SIGHUP)
    with open(config + ".new", "w") as out:
        out.write(text)
    os.rename(config + ".new", config)  # for the reading again
    os.write(pipe, text.encode())
    os.close(pipe)

    def is_ready():
        assert process.alive(), f"ended with {process.child.returncode}"
        os.kill(process.child.pid, signal.SIGHUP)
        return ready()
    deadline = time.monotonic() + 30
    while not is_ready():
        assert time.monotonic() < deadline, process.tail()
        time.sleep(0.001)
    wait_for(f"{process.name} to read its files again", lambda: said(process) > before)
    code = process.stop()
    assert code == 0, (code, process.tail())
    os.unlink(config)


def main():
    folder = tempfile.mkdtemp(prefix="weir-reload-")

    def path(name):
        return os.path.join(folder, name)

    port, http = free_port(), free_port()
    tier = Process("global", [os.path.join(BIN, "weir-aggregator"), "--config", path("g.yaml")],
                   path("g.log"))
    edge = Process("edge", [os.path.join(BIN, "weir-daemon"), "--config", path("e.yaml")],
                   path("e.log"))

    def tier_ready():
        try:
            return get(f"http://127.0.0.1:{http}", "/-/ready")[0] == 200
        except OSError:
            return False
    try:
        for _ in range(STARTS):
            start_and_reload(tier, path("g.yaml"), aggregator_yaml(
                "global", "g", port, http, path("g"), "1s", "5s"), tier_ready)
            start_and_reload(edge, path("e.yaml"), daemon_yaml(
                "e1", path("e"), "1s", "500ms", f"tcp://127.0.0.1:{port}", None, path("e.sock")),
                lambda: os.path.exists(path("e.sock")))
    except BaseException:
        print(tier.tail(), edge.tail(), flush=True)
        raise
    finally:
        for process in (tier, edge):
            if process.alive():
                process.kill()
        shutil.rmtree(folder)


if __name__ == "__main__":
    sys.exit(main())
