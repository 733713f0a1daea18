"""CPU profiles are true: a burner with known functions, sampled at 49 Hz for 30 s, shows the right
shares in the folded flame graph read from the global tier; the page opens in headless Chromium
without a console error (screenshot and page are build artefacts)."""
import os
import re
import shutil
import subprocess
import sys

from harness import Stack, skip, wait_for
from requests_test import collectors

SECONDS = 30
SHARES = {"burn_sixty": 60, "burn_thirty": 30, "burn_ten": 10}


def shares(folded, service):
    """Percent of the service's time below each known function."""
    sums, total = dict.fromkeys(SHARES, 0), 0
    for line in folded.splitlines():
        stack, value = line.rsplit(" ", 1)
        frames = stack.split(";")
        if service not in frames[:2]:
            continue
        total += int(value)
        for name in SHARES:
            if name in frames:
                sums[name] += int(value)
    return {name: 100 * part / total for name, part in sums.items()} if total else {}


def look(page, artefacts):
    """Opens the page in headless Chromium; returns its console errors."""
    chromium = shutil.which("chromium")
    if chromium is None:
        print("SKIP of one part: chromium is not installed", flush=True)
        return
    shot = os.path.join(artefacts, "flamegraph.png")
    done = subprocess.run(
        [chromium, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
         "--disable-background-networking", "--disable-component-update", "--disable-sync",
         f"--user-data-dir={artefacts}/chromium", "--enable-logging=stderr", "--v=0",
         "--window-size=1200,700", f"--screenshot={shot}", "file://" + page],
        capture_output=True, text=True, timeout=120)
    errors = [line for line in done.stderr.splitlines()
              if "CONSOLE" in line and re.search(r"error|refused|violat", line, re.I)]
    assert done.returncode == 0 and os.path.getsize(shot) > 5000, done.stderr[-2000:]
    assert not errors, errors
    dom = subprocess.run(
        [chromium, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
         "--disable-background-networking", "--disable-component-update", "--disable-sync",
         f"--user-data-dir={artefacts}/chromium", "--dump-dom", "file://" + page],
        capture_output=True, text=True, timeout=120).stdout
    drawn = re.search(r'data-boxes="(\d+)"', dom)
    assert drawn and int(drawn.group(1)) > 3, "the graph drew nothing"
    print(f"Chromium drew {drawn.group(1)} frames; screenshot {shot}", flush=True)


def main():
    build = os.environ.get("WEIR_BUILD", "build/release")
    artefacts = os.path.join(build, "artefacts")
    os.makedirs(artefacts, exist_ok=True)
    burner = os.path.join(build, "bin", "burner")
    with Stack(profile=True, statsd=False, hz=49) as stack:
        wait_for("collectors", lambda: collectors(stack))
        state = next(c for c in collectors(stack) if c["name"] == "profile")
        if state["state"] == "unavailable":
            skip(f"profile collector unavailable: {state['reason']}")
        subprocess.run([burner, str(SECONDS)], check=True, timeout=SECONDS * 10)

        def close_enough():
            folded = stack.weir("flamegraph", "--since", "1h", "--service", "burner", "--format",
                                "folded", check=False)
            return shares(folded, "burner") and folded

        wait_for("the burner's profile at global", close_enough)
        # Samples travel with their windows: wait until the totals no longer grow.
        folded = ""
        def settled():
            nonlocal folded
            before, folded = folded, close_enough()
            return folded and folded == before
        wait_for("the profile to be complete", settled)
        got = shares(folded, "burner")
        print(f"shares {got}", flush=True)
        for name, share in SHARES.items():
            assert abs(got[name] - share) <= 5, (name, got)

        page = os.path.abspath(os.path.join(artefacts, "flamegraph.html"))
        stack.weir("flamegraph", "--since", "1h", "--service", "burner", "-o", page)
        text = open(page).read()
        assert "http://" not in text and "https://" not in text, "the page must not need a network"
        look(page, os.path.abspath(artefacts))


if __name__ == "__main__":
    sys.exit(main())
