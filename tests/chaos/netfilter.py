"""Faults below TCP, by nftables on the loopback of this run's own network namespace."""
import subprocess

FAULTS = {
    "drop": ["tcp dport {port} drop", "tcp sport {port} drop"],
    "reset": ["tcp dport {port} reject with tcp reset"],
    "up_lost": ["tcp dport {port} drop"],
    "down_lost": ["tcp sport {port} drop"],
    "loss30": ["tcp dport {port} numgen random mod 100 < 30 drop",
               "tcp sport {port} numgen random mod 100 < 30 drop"],
}


class Netfilter:
    """The rules of now, by port. Every change loads the whole table in one transaction."""

    def __init__(self):
        self.active = {}

    def set(self, port, fault):
        self.active[port] = fault
        self._load()

    def clear(self, port=None):
        if not self.active:
            return
        if port is None:
            self.active.clear()
        else:
            self.active.pop(port, None)
        self._load()

    def _load(self):
        rules = "\n".join("    " + rule.format(port=port) for port, fault in self.active.items()
                          for rule in FAULTS[fault])
        # "add" first, so that deleting works when it is not there yet.
        text = f"""add table inet chaos
delete table inet chaos
table inet chaos {{
  chain input {{
    type filter hook input priority 0; policy accept;
{rules}
  }}
}}
"""
        subprocess.run(["nft", "-f", "-"], input=text, text=True, check=True)
