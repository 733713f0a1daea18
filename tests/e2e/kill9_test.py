"""kill -9 of each process at a random moment during a push run, three times each, then restart:
totals at global are exact. The push sockets are held by the test, as systemd's socket units hold them
in production, so what arrives while the daemon is down waits in the kernel; the daemon's journal
keeps what it had taken in but not yet committed."""
import os
import random
import socket
import sys
import threading
import time

from harness import Stack, hold_socket, wait_for

ROUNDS = 3


class Pusher(threading.Thread):
    """Sends numbered increments over the unix socket until told to stop; counts what was taken."""

    def __init__(self, path):
        super().__init__(daemon=True)
        self.path, self.sent, self.stopping = path, 0, threading.Event()

    def run(self):
        out = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        out.connect(self.path)
        while not self.stopping.is_set():
            out.send(b"ledger.units:7|c\nledger.units:3|c")  # blocks while the queue is full
            self.sent += 10
            time.sleep(0.0005)


def main():
    seed = int(os.environ.get("WEIR_SEED", random.randrange(1 << 30)))
    chance = random.Random(seed)
    print(f"seed {seed} (WEIR_SEED repeats it)", flush=True)
    stack = Stack()
    hold_socket(stack.daemon, stack.unix)
    with stack:
        pusher = Pusher(stack.unix)
        pusher.start()
        for round_number in range(ROUNDS):
            for process in (stack.daemon, stack.region, stack.top):
                time.sleep(0.3 + chance.random() * 1.5)
                process.kill()
                time.sleep(chance.random() * 0.5)
                process.start()
                print(f"round {round_number + 1}: killed {process.name}", flush=True)
        time.sleep(1)
        pusher.stopping.set()
        pusher.join(10)
        assert not pusher.is_alive(), "the pusher is stuck: the daemon does not read"
        expected = pusher.sent

        def total(tier):
            return stack.total("sum(increase(ledger_units[1h]))", tier)

        for tier in ("region", "global"):
            wait_for(f"{expected} units at {tier}", lambda t=tier: total(t) >= expected, 60)
            assert total(tier) == expected, (tier, total(tier), expected)
        print(f"{expected} units pushed, at region and at global after {3 * ROUNDS} kills", flush=True)


if __name__ == "__main__":
    sys.exit(main())
