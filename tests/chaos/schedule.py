"""What goes wrong, and when: a list of steps drawn from a seed. Pure: the same seed and shape give
the same list, whatever the machine does.

A step is (seconds since the faults began, World method, arguments). Each fault takes what it breaks
for itself until it is over, so that no two faults undo each other; beyond that they overlap freely.
"""
import random

import netfilter
import proxy

FAULTS_S = 9.0  # how long things go wrong
INJECT_S = 1.5
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


FAULTS = [(kill, 5), (freeze, 2), (terminate, 1), (link, 5), (port, 3), (cut_off, 1),
          (inject, 2)]


def shape_of(seed):
    """How large the world of this seed is."""
    chance = random.Random(f"{seed}/shape")
    return {"edges": chance.choice([1, 2, 3]), "regions": chance.choice([1, 1, 2]),
            "aggregators": 1}


def draw(seed, shape):
    """shape: nodes, aggregators, links (names), regions (name -> aggregators)."""
    chance = random.Random(f"{seed}/schedule")
    calendar = Calendar(chance)
    kinds, weights = zip(*FAULTS)
    for fault in chance.choices(kinds, weights, k=chance.randrange(4, 11)):
        fault(calendar, shape)
    return sorted(calendar.steps, key=lambda step: step[0])
