"""TCP proxies between the tiers that misbehave on demand.

A Proxy listens on one port, connects each client on to another and passes bytes both ways. What it
does to them is its `fault`, which may change at any time: each piece of data obeys the fault of its
moment. Pieces are whole ZMTP messages wherever the stream is ZMTP 3, so those can be duplicated and
reordered as messages; other faults treat them as bytes.

All proxies of a run live on one thread with an asyncio loop of its own (ProxyThread). Chance comes
from a seeded generator for each connection: a run replays as far as timing does.
"""
import asyncio
import random
import threading

CHUNK = 65536
GREETING = 64  # bytes of ZMTP's greeting, in both directions
BIG = 1 << 24  # a piece beyond this passes as bytes: whatever it is, it is not ours

# fault name -> what it does; the schedule draws from these.
FAULTS = {
    "clean": "passes everything",
    "delay": "each piece 50 to 300 ms late",
    "cut": "closes with RST after a random number of bytes, again and again",
    "half_close": "ends one direction, keeps the other one open",
    "corrupt": "flips a bit of the last quarter of every fifth message",
    "garble": "flips a bit anywhere in every fifth piece, ZMTP's own bytes too",
    "throttle": "10 KB/s",
    "stall": "nothing passes; what waited goes on afterwards",
    "blackhole": "swallows everything; the connection dies with the fault",
    "refuse": "closes what is open and what comes",
    "shuffle": "whole messages out of order, and some twice",
}


class Pieces:
    """Cuts one direction of a ZMTP 3 stream into its greeting and whole messages. Pure."""

    def __init__(self):
        self.buffer = b""
        self.greeting = GREETING  # bytes of it still to come
        self.raw = False

    def feed(self, data):
        """The pieces complete now, as (bytes, is_message)."""
        self.buffer += data
        pieces = []
        while self.buffer:
            greeting = self.greeting > 0
            size = self._size()
            if size is None:
                break
            # Commands (READY, PING, SUBSCRIBE) have bit 2 set: they keep their place.
            message = not greeting and not self.raw and not self.buffer[0] & 4
            pieces.append((self.buffer[:size], message))
            self.buffer = self.buffer[size:]
        return pieces

    def _size(self):
        have = len(self.buffer)
        if self.greeting == GREETING and self.buffer[0] != 0xff:
            self.raw = True
        if self.raw:
            return have
        if self.greeting > 0:  # not held back: the ends wait for parts of each other's
            size = min(have, self.greeting)
            self.greeting -= size
            return size
        at = 0
        while True:  # over the frames of one message
            if have < at + 2:
                return None
            flags = self.buffer[at]
            if flags & 0xf8:
                self.raw = True  # reserved bits: not ZMTP, or corrupted on the way
                return have
            if flags & 2:
                if have < at + 9:
                    return None
                length = int.from_bytes(self.buffer[at + 1:at + 9], "big")
                at += 9 + length
            else:
                at += 2 + self.buffer[at + 1]
            if at > BIG:
                self.raw = True
                return have
            if have < at:
                return None
            if not flags & 1:
                return at


class Proxy:
    def __init__(self, name, port, target, seed):
        self.name, self.port, self.target = name, port, target
        self.chance = random.Random(f"{seed}/{name}")
        self.fault = "clean"
        self.connections = set()
        self.server = None
        self.bytes = 0

    async def open(self):
        self.server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)

    def set(self, fault):
        """Called on the loop's thread."""
        assert fault in FAULTS, fault
        old, self.fault = self.fault, fault
        # A stream with a hole in it must not go on; a refused peer must notice at once.
        if "blackhole" in (old, fault) and old != fault and fault != "blackhole" \
                or fault == "refuse":
            for connection in list(self.connections):
                connection.abort()

    async def _accept(self, reader, writer):
        if self.fault == "refuse":
            writer.transport.abort()
            return
        try:
            up = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            writer.transport.abort()
            return
        connection = Connection(self, (reader, writer), up)
        self.connections.add(connection)
        try:
            await connection.run()
        finally:
            self.connections.discard(connection)


class HalfClosed(Exception):
    pass


class Connection:
    def __init__(self, proxy, down, up):
        self.proxy = proxy
        self.ends = (down, up)
        self.chance = random.Random(proxy.chance.random())
        self.cut_at = self.chance.randrange(1, 20000)
        self.passed = 0

    async def run(self):
        (down_reader, down_writer), (up_reader, up_writer) = self.ends
        await asyncio.gather(self._pump(down_reader, up_writer), self._pump(up_reader, down_writer))
        self.abort()

    def abort(self):
        for _, writer in self.ends:
            writer.transport.abort()

    async def _pump(self, reader, writer):
        pieces, held = Pieces(), []
        try:
            while True:
                try:
                    data = await asyncio.wait_for(reader.read(CHUNK), 0.1 if held else None)
                except asyncio.TimeoutError:
                    await self._release(held, writer)
                    continue
                if not data:
                    break
                self.proxy.bytes += len(data)
                for piece, message in pieces.feed(data):
                    await self._pass(piece, message, held, writer)
                await writer.drain()
            await self._release(held, writer)
            if self.proxy.fault != "blackhole" and writer.can_write_eof():
                writer.write_eof()
        except HalfClosed:
            return  # this direction has ended; the other one goes on
        except (OSError, RuntimeError):
            self.abort()

    async def _release(self, held, writer):
        self.chance.shuffle(held)
        for piece in held:
            writer.write(piece)
            if self.chance.random() < 0.3:
                writer.write(piece)
        held.clear()
        await writer.drain()

    async def _pass(self, piece, message, held, writer):
        while self.proxy.fault == "stall":
            await asyncio.sleep(0.05)
        fault = self.proxy.fault
        if fault == "blackhole":
            return
        if fault == "shuffle" and message:
            held.append(piece)
            if len(held) >= 4:
                await self._release(held, writer)
            return
        await self._release(held, writer)
        if fault == "delay":
            await asyncio.sleep(0.05 + self.chance.random() * 0.25)
        elif fault == "throttle":
            for at in range(0, len(piece), 1000):
                writer.write(piece[at:at + 1000])
                await writer.drain()
                await asyncio.sleep(min(0.1, len(piece) / 10_000))
                if self.proxy.fault != "throttle":
                    writer.write(piece[at + 1000:])
                    break
            return
        elif (fault == "garble" or fault == "corrupt" and message) and self.chance.random() < 0.2:
            # The last quarter of a message is its body, never a length or a flag of ZMTP.
            at = self.chance.randrange(0 if fault == "garble" else len(piece) * 3 // 4, len(piece))
            piece = piece[:at] + bytes([piece[at] ^ 1 << self.chance.randrange(8)]) + piece[at + 1:]
        elif fault == "cut":
            left = self.cut_at - self.passed
            if left <= len(piece):
                writer.write(piece[:max(0, left)])
                await writer.drain()
                raise ConnectionAbortedError("cut")
        elif fault == "half_close" and self.chance.random() < 0.2:
            writer.write(piece)
            writer.write_eof()
            raise HalfClosed
        self.passed += len(piece)
        writer.write(piece)


class ProxyThread(threading.Thread):
    """Runs the proxies; its methods may be called from any thread."""

    def __init__(self):
        super().__init__(daemon=True, name="proxies")
        self.loop = asyncio.new_event_loop()
        self.proxies = {}
        self.start()

    def run(self):
        asyncio.set_event_loop(self.loop)
        self.loop.run_forever()

    def add(self, proxy):
        asyncio.run_coroutine_threadsafe(proxy.open(), self.loop).result(10)
        self.proxies[proxy.name] = proxy

    def set(self, name, fault):
        self.loop.call_soon_threadsafe(self.proxies[name].set, fault)

    def heal(self):
        for name in self.proxies:
            self.set(name, "clean")
