"""A daemon without a capability says which one it lacks, keeps going with the rest, and `weir status`
shows it with the fix."""
import shutil
import socket
import sys

from harness import Stack, skip, wait_for
from requests_test import collectors


def main():
    if shutil.which("setpriv") is None:
        skip("setpriv is not installed")
    # What profiles need, but not CAP_NET_ADMIN (nor CAP_SYS_ADMIN, which stands for it): profiles and
    # push run, requests cannot attach.
    kept = "-all,+bpf,+perfmon,+syslog,+sys_ptrace,+dac_read_search,+dac_override"
    prefix = ["setpriv", "--bounding-set", kept, "--inh-caps", "-all"]
    with Stack(requests=True, profile=True, daemon_prefix=prefix) as stack:
        wait_for("three collectors", lambda: len(collectors(stack)) >= 3)
        states = {c["name"]: c for c in collectors(stack)}
        assert states["requests"]["state"] == "unavailable", states
        assert "CAP_NET_ADMIN" in states["requests"]["reason"] + states["requests"]["fix"], states
        assert states["statsd"]["state"] == "running", states
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out:
            out.sendto(b"still.counting:41|c", stack.unix)
        wait_for("the pushed count at global",
                 lambda: stack.total("sum(increase(still_counting[1h]))") == 41)
        text = stack.weir("status", tier="region")
        assert "requests" in text and "CAP_NET_ADMIN" in text and "unavailable" in text, text
        log = open(stack.daemon.log).read()
        assert "CAP_NET_ADMIN" in log, log
        print(text, flush=True)

    # Without any: push alone runs.
    prefix = ["setpriv", "--bounding-set", "-all", "--inh-caps", "-all"]
    with Stack(requests=True, profile=True, daemon_prefix=prefix) as stack:
        wait_for("three collectors", lambda: len(collectors(stack)) >= 3)
        states = {c["name"]: c for c in collectors(stack)}
        for name in ("requests", "profile"):
            assert states[name]["state"] == "unavailable", states
            assert "CAP_BPF" in states[name]["reason"] + states[name]["fix"], states
        assert states["statsd"]["state"] == "running", states


if __name__ == "__main__":
    sys.exit(main())
