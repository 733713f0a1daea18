"""Pushed events are exact: 100,000 StatsD events with known values from client libraries and tools
not written here, over UDP and a unix datagram socket, arrive at global to the unit; what the kernel
dropped on UDP is counted and is all that may be missing."""
import os
import subprocess
import sys

from harness import Stack, by_label, query, skip, wait_for

PYTHON_CLIENT = """
import statsd, time
client = statsd.StatsClient("127.0.0.1", {port})
for i in range({events}):
    client.incr("python.clicks", i % 7)
    if i % 50 == 49: time.sleep(0.002)
"""

PERL_CLIENT = """
use Net::Statsd;
$Net::Statsd::HOST = "127.0.0.1"; $Net::Statsd::PORT = {port};
for my $i (0 .. {events} - 1) {{
    Net::Statsd::update_stats("perl.clicks", 3, 1);
    select(undef, undef, undef, 0.002) if $i % 50 == 49;
}}
"""


def kernel_drops(stack):
    return stack.total('sum(increase(weir_dropped_total{where="statsd",reason="kernel"}[1h]))')


def main():
    python = next((p for p in ("/usr/bin/python3",) if subprocess.run(
        [p, "-c", "import statsd"], capture_output=True).returncode == 0), None)
    if python is None:
        skip("Debian's python3-statsd is not installed")
    with Stack() as stack:
        # 40,000 packets by Debian's python3-statsd, 20,000 by libnet-statsd-perl, over UDP.
        subprocess.run([python, "-c", PYTHON_CLIENT.format(port=stack.udp, events=40_000)], check=True)
        subprocess.run(["perl", "-e", PERL_CLIENT.format(port=stack.udp, events=20_000)], check=True)
        # 40,000 lines by socat over the unix socket: 16-byte lines, 64 to a datagram. A full unix
        # socket makes the sender wait, so none is lost.
        path = os.path.join(stack.folder, "lines")
        with open(path, "w") as lines:
            for i in range(40_000):
                line = f"unix.hits:{i % 10:03d}|c"
                assert len(line) == 15, line
                lines.write(line + "\n")
        subprocess.run(["socat", "-u", "-b", "1024", f"OPEN:{path}", f"UNIX-SENDTO:{stack.unix}"],
                       check=True)

        expected = {
            "unix": sum(i % 10 for i in range(40_000)),
            "python": sum(i % 7 for i in range(40_000)),
            "perl": 3 * 20_000,
        }

        def totals():
            return {
                "unix": stack.total("sum(increase(unix_hits[1h]))"),
                "python": stack.total("sum(increase(python_clicks[1h]))"),
                "perl": stack.total("sum(increase(perl_clicks[1h]))"),
            }

        wait_for("the unix datagrams at global", lambda: totals()["unix"] == expected["unix"])
        wait_for("the UDP events at global", lambda: totals() == expected or kernel_drops(stack) > 0)
        got, dropped = totals(), kernel_drops(stack)
        print(f"expected {expected}, got {got}, dropped by the kernel {dropped}", flush=True)
        assert got["unix"] == expected["unix"]
        if dropped == 0:
            assert got == expected
        else:  # every missing packet is one the kernel counted; a packet is worth 0..6 or 3 units
            missing = expected["perl"] - got["perl"]
            assert missing % 3 == 0 and missing // 3 <= dropped, (got, dropped)
            assert 0 <= expected["python"] - got["python"] <= 6 * (dropped - missing // 3)

        # The same at the region, and by the host that pushed it.
        at_region = by_label(query(stack.region_url, "sum by (host) (increase(unix_hits[1h]))"), "host")
        assert at_region == {"edge-1": expected["unix"]}, at_region


if __name__ == "__main__":
    sys.exit(main())
