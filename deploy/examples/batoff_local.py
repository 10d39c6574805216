"""The cache's side of proto/batoff/edge/v1/local.proto, in Python: read the contract beside it.

Needs grpcio and grpcio-tools, which compiles the contract when this is imported:

    python3 -m venv venv && venv/bin/pip install grpcio grpcio-tools
"""

import itertools
import mmap
import os
import pathlib
import queue
import struct
import sys
import threading
import time
import zlib

import grpc

PROTO = pathlib.Path(__file__).resolve().parents[2] / "proto"
sys.path.insert(0, os.environ.get("BATOFF_PROTO", str(PROTO)))
pb, services = grpc.protos_and_services("batoff/edge/v1/local.proto")

OBJECTS_PER_MESSAGE = 1000
PAGE_BYTES, BLOCK_BYTES, CHECK_AT, SEQUENCE_AT = 4096, 104, 96, 32


class Page:
    """The mapped page: fill tokens and the right to serve, without a call."""

    def __init__(self, path):
        with open(path, "rb") as file:
            self.map = mmap.mmap(file.fileno(), PAGE_BYTES, mmap.MAP_SHARED, mmap.PROT_READ)
        boot = pathlib.Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        self.boot = bytes.fromhex(boot.replace("-", ""))

    def read(self):
        """(generation, applied, session, serve_until), or None: fail closed."""
        for _ in range(1000):
            block = self.map[:BLOCK_BYTES]
            (sequence,) = struct.unpack_from("<Q", block, SEQUENCE_AT)
            (check,) = struct.unpack_from("<Q", block, CHECK_AT)
            if sequence % 2 or zlib.crc32(block[:CHECK_AT]) != check:
                continue
            if struct.unpack_from("<Q", self.map, SEQUENCE_AT)[0] != sequence:
                continue
            if block[:12] != b"BATOFFPG\x01\0\0\0" or block[16:32] != self.boot:
                return None
            generation, applied, _floor, session, serve_until = struct.unpack_from("<5Q", block, 56)
            return generation, applied, session, serve_until
        return None


class Client:
    """Keeps a session with the daemon, whichever of the two is restarted.

    `cache` has the methods evict(handle), turn_stale(handle), clear() and held(), which gives
    (url, handle, cache_tag, token, stale) of every object. They are called with `lock` held, the one lock that the
    contract asks for; the cache takes it as well.
    """

    def __init__(self, socket, name, cache):
        self.name, self.cache = name, cache
        self.lock = threading.RLock()
        self.session = None  # the one that there is now
        self.welcomed = None  # the last one that there was, and its page
        self.been_in_sync = False
        self.through = None  # everything purged before this is confirmed
        self.pending = {}  # handles of commits that are not answered, and whether they are void
        self.dropped = queue.SimpleQueue()
        options = [
            ("grpc.default_authority", "localhost"),  # the path, which is the default here, is no authority
            ("grpc.initial_reconnect_backoff_ms", 50),
            ("grpc.min_reconnect_backoff_ms", 50),
            ("grpc.max_reconnect_backoff_ms", 2000),
        ]
        self.stub = services.LocalStub(grpc.insecure_channel(f"unix:{socket}", options=options))
        threading.Thread(target=self._keep_connected, daemon=True).start()
        threading.Thread(target=self._say_gone, daemon=True).start()

    def may_serve(self):
        """The last question of a hit."""
        own, page = self.welcomed or (None, None)
        state = page.read() if page else None
        if state is None:
            return False
        _, _, session, serve_until = state
        is_ours = session == own if session else self.been_in_sync
        return is_ours and time.clock_gettime_ns(time.CLOCK_BOOTTIME) < serve_until

    def fill_token(self):
        """To be taken before the fetch begins; None: what is fetched must not be stored."""
        state = self.welcomed[1].read() if self.session else None
        return pb.FillToken(generation=state[0], applied=state[1]) if state else None

    def commit(self, url, handle, cache_tag, token, keep):
        """Registers an object; keep(stale) is called, with the lock held, if it may be kept."""
        with self.lock:
            session = self.session
            if session is None:
                return False
            self.pending[handle] = False
        told = pb.Object(url=url, handle=handle, cache_tag=cache_tag, token=token)
        try:
            verdict = self.stub.Commit(pb.CommitRequest(session=session, object=told), timeout=5).verdict
        except grpc.RpcError:
            verdict = pb.VERDICT_DISCARD
        with self.lock:
            void = self.pending.pop(handle, True) or self.session != session
            kept = not void and verdict in (pb.VERDICT_STORE, pb.VERDICT_STORE_STALE)
            if kept:
                keep(verdict == pb.VERDICT_STORE_STALE)
        return kept

    def gone(self, url, handle):
        """The cache has dropped it by itself. Told in the background."""
        self.dropped.put((url, handle))

    def _say_gone(self):
        while True:
            batch = [self.dropped.get()]
            while len(batch) < OBJECTS_PER_MESSAGE and not self.dropped.empty():
                batch.append(self.dropped.get())
            session = self.session
            objects = [pb.GoneObject(url=url, handle=handle) for url, handle in batch]
            try:
                if session is not None:
                    self.stub.Gone(pb.GoneRequest(session=session, objects=objects), timeout=5)
            except grpc.RpcError:
                pass  # the next session begins with what is held then

    def _keep_connected(self):
        wait = 0.05
        while True:
            try:
                if self._follow():
                    wait = 0.05
            except (grpc.RpcError, OSError) as error:
                why = error.details() if isinstance(error, grpc.RpcError) else error
                print(f"no session with the daemon: {why}", file=sys.stderr, flush=True)
            with self.lock:
                self.session = None
                self.pending = dict.fromkeys(self.pending, True)
            time.sleep(wait)
            wait = min(wait * 2, 2)

    def _follow(self):
        """One session, to its end; whether it came in sync."""
        outgoing = queue.SimpleQueue()
        hello = pb.Hello(cache=self.name, software="batoff_local.py")
        outgoing.put(pb.FromCache(hello=hello))
        events = self.stub.Watch(iter(outgoing.get, None))
        in_sync = False
        try:
            for event in events:
                kind = event.WhichOneof("body")
                if kind == "welcome":
                    self._begin(event.welcome, outgoing)
                elif kind == "in_sync":
                    in_sync = self.been_in_sync = True
                elif kind == "evict":
                    self._evict(event.evict)
                    outgoing.put(pb.FromCache(confirm=pb.Confirm(id=event.evict.id)))
                elif kind == "clear":
                    with self.lock:
                        self.pending = dict.fromkeys(self.pending, True)
                        self.through = None
                        self.cache.clear()
                    outgoing.put(pb.FromCache(confirm=pb.Confirm(id=event.clear.id)))
                elif kind == "through":
                    self.through = event.through.token
                else:
                    raise OSError("the daemon asks for something unknown; update the cache")
        finally:
            events.cancel()
            outgoing.put(None)
        return in_sync

    def _begin(self, welcome, outgoing):
        page = Page(welcome.page)
        with self.lock:
            self.welcomed, self.pending, self.session = (welcome.session, page), {}, welcome.session
            held = list(self.cache.held())
        objects = (
            pb.Object(url=url, handle=handle, cache_tag=tags, token=self._confirmed(token, stale))
            for url, handle, tags, token, stale in held
        )
        while batch := list(itertools.islice(objects, OBJECTS_PER_MESSAGE)):
            outgoing.put(pb.FromCache(held=pb.Held(objects=batch)))
        outgoing.put(pb.FromCache(held_all=pb.HeldAll()))

    def _confirmed(self, token, stale):
        """A fresh object that is still here was not hit by anything before `through`."""
        through = self.through
        if stale or through is None or through.generation != token.generation:
            return token
        return through if through.applied > token.applied else token

    def _evict(self, evict):
        with self.lock:
            for hit in evict.objects:
                if hit.handle in self.pending:
                    self.pending[hit.handle] = True
                elif hit.effect == pb.EFFECT_STALE:
                    self.cache.turn_stale(hit.handle)
                else:
                    self.cache.evict(hit.handle)
