"""What goes wrong, and when: a list of steps drawn from a seed. Pure: the same seed and shape give
the same list, whatever the machine does.

A step is (seconds since the faults began, World method, arguments). Each fault takes what it breaks
for itself until it is over, so that no two faults undo each other; beyond that they overlap freely.
"""
import random

import netfilter
import proxy

FAULTS_S = 9.0  # how long things go wrong
INJECT_S = 2.5
SLACK_S = 0.3   # between two faults of one thing
# After garbled ZMTP libzmq never connects again: such a link stays dead until its process restarts.
NOT_DRAWN = {"clean", "garble"}


class Calendar:
    def __init__(self, chance):
        self.chance = chance
        self.steps = []
        self.taken = {}  # thing -> [(from, to)]

    def take(self, thing, seconds):
        """A moment from which on the thing is free for so long, or None."""
        for _ in range(8):
            at = self.chance.random() * max(0.1, FAULTS_S - seconds)
            if all(at > end + SLACK_S or at + seconds < begin - SLACK_S
                   for begin, end in self.taken.get(thing, [])):
                self.taken.setdefault(thing, []).append((at, at + seconds))
                return at
        return None

    def add(self, at, step, *arguments):
        self.steps.append((round(at, 3), step, *arguments))


def kill(calendar, shape):
    name, down = calendar.chance.choice(shape["nodes"]), calendar.chance.random() * 1.5
    at = calendar.take(name, down)
    if at is not None:
        calendar.add(at, "kill", name)
        calendar.add(at + down, "run_again", name)


def terminate(calendar, shape):
    name, down = calendar.chance.choice(shape["nodes"]), 2 + calendar.chance.random()
    at = calendar.take(name, down)
    if at is not None:
        calendar.add(at, "terminate", name)
        if name in shape["edges"]:
            calendar.add(at, "copy", name)  # to come back to (scenario.py)
        calendar.add(at + down, "run_again", name)


def freeze(calendar, shape):
    name = calendar.chance.choice(shape["nodes"])
    seconds = calendar.chance.choice([0.2, 1, 3, 4.5])
    at = calendar.take(name, seconds)
    if at is not None:
        calendar.add(at, "freeze", name)
        calendar.add(at + seconds, "thaw", name)


def link(calendar, shape):
    name = calendar.chance.choice(shape["links"])
    fault = calendar.chance.choice(sorted(set(proxy.FAULTS) - NOT_DRAWN))
    seconds = 0.5 + calendar.chance.random() * 4
    at = calendar.take(name, seconds)
    if at is not None:
        calendar.add(at, "link", name, fault)
        calendar.add(at + seconds, "link", name, "clean")


def port(calendar, shape):
    name = calendar.chance.choice(shape["aggregators"])
    fault = calendar.chance.choice(sorted(netfilter.FAULTS))
    seconds = 0.5 + calendar.chance.random() * 4
    at = calendar.take(f"port {name}", seconds)
    if at is not None:
        calendar.add(at, "port", name, fault)
        calendar.add(at + seconds, "port", name, "clean")


def cut_off(calendar, shape):
    """All aggregators of a region at once, as seen by their edges."""
    region = calendar.chance.choice(sorted(shape["regions"]))
    seconds, names = 2 + calendar.chance.random() * 3, shape["regions"][region]
    at = calendar.take(f"port {names[0]}", seconds)
    if at is not None:
        for name in names:
            calendar.taken.setdefault(f"port {name}", []).append((at, at + seconds))
            calendar.add(at, "port", name, "drop")
            calendar.add(at + seconds, "port", name, "clean")


def inject(calendar, shape):
    """Bad messages, while nothing else makes that aggregator refuse."""
    name = calendar.chance.choice(shape["aggregators"])
    things = [name, f"port {name}"] + [one for one in shape["links"] if one.endswith(f">{name}")]
    at = calendar.take(name, INJECT_S)
    if at is None or any(at < end and at + INJECT_S > begin for thing in things[1:]
                         for begin, end in calendar.taken.get(thing, [])):
        return
    for thing in things[1:]:
        calendar.taken.setdefault(thing, []).append((at, at + INJECT_S))
    calendar.add(at, "inject", name)


def lose_disk(calendar, shape):
    """An aggregator dies with its disk; not the last tier's, whose loss nothing covers."""
    name, down = calendar.chance.choice(shape["regional"]), calendar.chance.random() * 2
    at = calendar.take(name, down)
    if at is not None:
        calendar.add(at, "kill", name)
        calendar.add(at, "wipe", name)
        calendar.add(at + down, "run_again", name)


def old_copy(calendar, shape):
    """An aggregator comes back with the disk of some seconds ago."""
    name, seconds = calendar.chance.choice(shape["regional"]), 1 + calendar.chance.random() * 4
    at = calendar.take(name, seconds + 1)
    if at is not None:
        calendar.add(at, "kill", name)
        calendar.add(at, "copy", name)
        calendar.add(at + 0.1, "run_again", name)
        calendar.add(at + seconds, "kill", name)
        calendar.add(at + seconds, "restore", name)
        calendar.add(at + seconds + 1, "run_again", name)


def zombie(calendar, shape):
    """An aggregator that wakes when it is long given up."""
    name, seconds = calendar.chance.choice(shape["regional"]), shape["fence_after"] + 2
    at = calendar.take(name, seconds)
    if at is not None:
        calendar.add(at, "freeze", name)
        calendar.add(at + seconds, "thaw", name)


def region_down(calendar, shape):
    """All of a region's aggregators are dead for a while."""
    region, down = calendar.chance.choice(sorted(shape["regions"])), 1 + calendar.chance.random() * 3
    names = shape["regions"][region]
    at = calendar.take(names[0], down)
    if at is None or any(at < end + SLACK_S and at + down > begin - SLACK_S for name in names[1:]
                         for begin, end in calendar.taken.get(name, [])):
        return
    for name in names:
        calendar.taken.setdefault(name, []).append((at, at + down))
        calendar.add(at, "kill", name)
        calendar.add(at + down, "run_again", name)


def full_disk(calendar, shape):
    """Not a byte is free on the one small disk of this world."""
    name, seconds = shape["small_disk"], 1 + calendar.chance.random() * 4
    at = calendar.take(f"disk {name}", seconds) if name else None
    if at is not None:
        calendar.add(at, "fill", name)
        calendar.add(at + seconds, "unfill", name)


FAULTS = [(kill, 5), (freeze, 2), (terminate, 1), (link, 5), (port, 3), (cut_off, 1), (inject, 2),
          (lose_disk, 3), (old_copy, 1), (zombie, 1), (region_down, 1), (full_disk, 2)]


def shape_of(seed):
    """How large the world of this seed is."""
    chance = random.Random(f"{seed}/shape")
    return {"edges": chance.choice([1, 2, 3]), "regions": chance.choice([1, 1, 2]),
            "aggregators": chance.choice([1, 2, 2])}


def draw(seed, shape):
    """shape: nodes, edges, aggregators, regional (those below global), links (names), regions (name ->
    aggregators), small_disk (a node or None), fence_after (seconds)."""
    chance = random.Random(f"{seed}/schedule")
    calendar = Calendar(chance)
    kinds, weights = zip(*FAULTS)
    for fault in chance.choices(kinds, weights, k=chance.randrange(4, 11)):
        fault(calendar, shape)
    return sorted(calendar.steps, key=lambda step: step[0])
