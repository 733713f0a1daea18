"""Disks that are full, read-only or hold garbage, under real processes: small tmpfs mounts as the
data_dir of the edge and of the region. Nothing acknowledged is lost, what is given up is counted,
every start works, and what is wrong is said. Needs root for the mounts."""
import glob
import json
import os
import socket
import subprocess
import sys
import time

from harness import Stack, get, skip, wait_for

LIMITS = "limits: {disk_reserve: 256KiB, disk_step: 1MiB}\n"
SERIES = 400


class Tmpfs:
    def __init__(self, path, size):
        self.path = path
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", path], check=True)

    def free(self):
        found = os.statvfs(self.path)
        return found.f_bavail * found.f_frsize

    def fill(self):
        """Takes every byte there is; returns once nothing is free."""
        with open(self.path + "/filler", "ab", buffering=0) as filler:
            while True:
                try:
                    if filler.write(b"x" * max(4096, min(1 << 20, self.free()))) == 0:
                        return
                except OSError:
                    return

    def empty(self):
        os.unlink(self.path + "/filler")

    def remount(self, how):
        subprocess.run(["mount", "-o", f"remount,{how}", self.path], check=True)

    def close(self):
        subprocess.run(["umount", "-l", self.path], check=False)


class Push:
    """Counts what it sends; every series of a round is another one, so that batches are large."""

    def __init__(self, stack):
        self.sent = 0
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.connect(stack.unix)

    def round(self):
        for first in range(0, SERIES, 20):
            lines = [f"disk.units:1|c|#item:{'i' * 40}{number}" for number in range(first, first + 20)]
            self.socket.send("\n".join(lines).encode())
            self.sent += 20


def total(stack, tier="global"):
    return stack.total("sum(increase(disk_units[1h]))", tier)


def arrives(stack, expected):
    wait_for(f"{expected} units at global", lambda: total(stack) >= expected, 90)
    assert total(stack) == expected, (total(stack), expected)


def given_up(stack):
    """Samples of tombstones, the daemon's own metrics in the same batches included."""
    return stack.total('sum(increase(weir_dropped_total{where="outbox",reason="disk_full"}[1h]))')


def balanced(stack):
    _, text = get(stack.global_url, "/api/v1/status/weir")
    counters = json.loads(text)["data"]["counters"]
    return (counters["weir_ledger_imbalance"], counters["weir_ledger_overlaps_total"]) == (0, 0)


def comes_to_rest(stack):
    """The units at global, once they have been the same for some seconds."""
    seen = []

    def at_rest():
        seen.append(total(stack))
        return len(seen) > 50 and len(set(seen[-50:])) == 1

    wait_for("the units at global to come to rest", at_rest, 90)
    return seen[-1]


def says(process, text):
    wait_for(f"'{text}' in the log of {process.name}", lambda: text in process.tail(400), 30)


def stack_with_tmpfs(which, size):
    stack = Stack(daemon=LIMITS if which == "daemon" else "")
    if which != "daemon":
        with open(f"{stack.folder}/{which}.yaml", "a") as config:
            config.write(LIMITS)
    return stack, Tmpfs(f"{stack.folder}/{which}", size)


def full_edge():
    stack, disk = stack_with_tmpfs("daemon", "64m")
    try:
        with stack:
            push = Push(stack)
            push.round()
            arrives(stack, push.sent)
            stack.region.kill()
            disk.fill()
            deadline = time.monotonic() + 60
            while "no room on the disk" not in stack.daemon.tail(400):
                assert time.monotonic() < deadline, "the outbox never met the full disk"
                assert stack.daemon.alive(), "a full disk ended the daemon"
                push.round()
                time.sleep(0.2)
            assert disk.free() == 0
            stack.region.start()  # acknowledgements free pages, not a byte of the disk
            wait_for("all to arrive or to be given up",
                     lambda: total(stack) + given_up(stack) >= push.sent, 90)
            arrived = comes_to_rest(stack)
            assert arrived <= push.sent <= arrived + given_up(stack), (arrived, push.sent)
            stack.daemon.kill()
            stack.daemon.start()
            sent = push.sent
            wait_for("the daemon's socket", lambda: push_again(stack, push), 30)
            arrives(stack, arrived + push.sent - sent)
            wait_for("accounts that balance", lambda: balanced(stack), 30)
            assert disk.free() == 0
            assert not glob.glob(f"{disk.path}/*.bad-*"), "a full disk is no damage"
        print("edge: full, restarted full, all arrived or counted as given up", flush=True)
    finally:
        disk.close()


def push_again(stack, push):
    push.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    push.socket.connect(stack.unix)
    push.round()
    return True


def full_region():
    stack, disk = stack_with_tmpfs("region", "16m")
    try:
        with stack:
            push = Push(stack)
            push.round()
            arrives(stack, push.sent)
            disk.fill()
            stack.top.kill()  # so that nothing leaves the region
            deadline = time.monotonic() + 60
            while "no room on the disk" not in stack.region.tail(400):
                assert time.monotonic() < deadline, "the region never met the full disk"
                assert stack.region.alive(), "a full disk ended the region"
                push.round()
                time.sleep(0.2)
            stack.region.kill()
            stack.region.start()
            wait_for("the region on its full disk", lambda: total(stack, "region") > 0, 30)
            stack.top.start()
            disk.empty()
            arrives(stack, push.sent)
        print("region: full, restarted full, all arrived", flush=True)
    finally:
        disk.close()


def damage(path, how):
    for part in ("-wal", "-shm"):
        if os.path.exists(path + part):
            os.unlink(path + part)
    size = os.path.getsize(path)
    with open(path, "r+b") as file:
        if how == "garbage":
            file.write(os.urandom(size))
        elif how == "header":
            file.write(b"\xff" * 200)
        else:
            file.truncate(0)
            file.write(b"SQLite format 3\0")


def damaged_files():
    with Stack() as stack:
        push = Push(stack)
        for how in ("garbage", "header", "cut"):
            push.round()
            arrives(stack, push.sent)
            for process, name in ((stack.daemon, "daemon/outbox.db"), (stack.region, "region/weir.db")):
                time.sleep(1.5)  # acknowledged down to the edge: the page's disk loss loses nothing
                process.stop()
                damage(f"{stack.folder}/{name}", how)
                process.start()
                says(process, "a new one begins")
            wait_for("the daemon's socket", lambda: push_again(stack, push), 30)
            arrives(stack, push.sent)
        for name in ("daemon/outbox.db", "region/weir.db"):
            assert len(glob.glob(f"{stack.folder}/{name}.bad-[0-9]")) == 3
    print("garbage, a broken header and a cut file: put aside, and everything starts", flush=True)


def read_only_edge():
    stack, disk = stack_with_tmpfs("daemon", "64m")
    try:
        with stack:
            push = Push(stack)
            push.round()
            arrives(stack, push.sent)
            time.sleep(1.5)
            stack.daemon.stop()
            disk.remount("ro")
            stack.daemon.start()
            wait_for("the daemon's socket", lambda: push_again(stack, push), 30)
            says(stack.daemon, "the outbox is in memory")
            arrives(stack, push.sent)
            wait_for("status to say so", lambda: "in memory" in stack.weir("status", tier="region"), 30)
            stack.daemon.stop()
            disk.remount("rw")
            stack.daemon.start()
            wait_for("the daemon's socket", lambda: push_again(stack, push), 30)
            arrives(stack, push.sent)
            assert not glob.glob(f"{disk.path}/*.bad-*"), "read-only is no damage"
        print("edge: read-only disk, outbox in memory, and back", flush=True)
    finally:
        disk.close()


def read_only_region():
    stack, disk = stack_with_tmpfs("region", "64m")
    try:
        with stack:
            push = Push(stack)
            push.round()
            arrives(stack, push.sent)
            before = total(stack, "region")
            stack.region.stop()
            disk.remount("ro")
            stack.region.start()
            says(stack.region, "nothing is accepted")
            wait_for("queries on the read-only disk", lambda: total(stack, "region") == before, 30)
            push.round()
            time.sleep(2)
            assert total(stack, "region") == before, "accepted what it cannot store"
            disk.remount("rw")
            says(stack.region, "can be written again")
            arrives(stack, push.sent)
            assert not glob.glob(f"{disk.path}/*.bad-*"), "read-only is no damage"
        print("region: read-only disk, queries go on, and back", flush=True)
    finally:
        disk.close()


def main():
    if os.geteuid() != 0:
        skip("mounting a tmpfs needs root")
    for part in (damaged_files, full_edge, full_region, read_only_edge, read_only_region):
        if len(sys.argv) == 1 or part.__name__ in sys.argv[1:]:
            part()


if __name__ == "__main__":
    sys.exit(main())
