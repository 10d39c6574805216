#!/usr/bin/env python3
"""A caching HTTP proxy in Python that registers what it stores with the Batoff Purge daemon of its node.

An example of the local API, small enough to be read: one process, memory only, GET only. See batoff_local.py for the
conversation with the daemon; here is what a cache has to do around it.

    cache.py --listen 127.0.0.1:8095 --origin 127.0.0.1:8000 --cache web --socket /run/batoff-edge/local.sock
"""

import argparse
import collections
import http.client
import http.server
import itertools
import re
import socket
import threading
import time
from dataclasses import dataclass

from batoff_local import Client

HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "te", "trailer", "upgrade", "content-length", "host"}
STALE = "x-batoff-stale"


@dataclass(eq=False)
class Object:
    key: tuple
    handle: bytes
    url: str
    cache_tag: list
    token: object
    status: int
    headers: list
    body: bytes
    expires: float
    varies: dict  # the request's values of what the response varies by
    never_stale: bool  # must-revalidate, proxy-revalidate (RFC 9111, 5.2.2.2 and 5.2.2.8): stale, it is as good as gone
    stale: bool = False
    refreshing: bool = False

    def answers(self, request_headers):
        return all(request_headers.get(name) == value for name, value in self.varies.items())


class Store:
    """Objects by key and by handle, the oldest dropped first. Used with the client's lock held."""

    def __init__(self, room):
        self.room = room
        self.by_key = {}
        self.by_handle = collections.OrderedDict()

    def find(self, key, request_headers):
        return next((known for known in self.by_key.get(key, ()) if known.answers(request_headers)), None)

    def put(self, object):
        """Stores it; what had to leave for it."""
        left = [known for known in self.by_key.get(object.key, ()) if known.varies == object.varies]
        left += itertools.islice(self.by_handle.values(), max(0, len(self.by_handle) + 1 - self.room))
        for known in left:
            self.evict(known.handle)
        self.by_key.setdefault(object.key, []).append(object)
        self.by_handle[object.handle] = object
        return left

    # What the daemon asks.

    def evict(self, handle):
        object = self.by_handle.pop(handle, None)
        if object is not None:
            same_key = self.by_key[object.key]
            same_key.remove(object)
            if not same_key:
                del self.by_key[object.key]

    def turn_stale(self, handle):
        if handle in self.by_handle:
            self.by_handle[handle].stale = True

    def clear(self):
        self.by_key.clear()
        self.by_handle.clear()

    def held(self):
        return [(it.url, it.handle, it.cache_tag, it.token, it.stale) for it in self.by_handle.values()]


class Cache:
    def __init__(self, args):
        self.origin = args.origin
        self.store = Store(args.room)
        self.client = Client(args.socket, args.cache, self.store)
        self.handles = itertools.count(1)
        self.run = time.time_ns().to_bytes(8, "big")
        self.connections = threading.local()

    def lookup(self, key, request_headers):
        """(object, whether it is stale) if it may be served now, and whether there is any."""
        with self.client.lock:
            found = self.store.find(key, request_headers)
            if found is None or found.expires <= time.time() or found.stale and found.never_stale:
                return None, False
            stale = found.stale
            refresh = stale and not found.refreshing
            found.refreshing = found.refreshing or stale
        if refresh:
            threading.Thread(target=self.refresh, args=(found, key, request_headers), daemon=True).start()
        # The last step, with the answer ready.
        return (found if self.client.may_serve() else None), stale

    def refresh(self, found, key, request_headers):
        self.fetch(key, request_headers)
        with self.client.lock:
            found.refreshing = False  # where nothing has taken its place, the next visitor makes another attempt

    def fetch(self, key, request_headers):
        """Asks the origin, and stores the answer if it may be stored."""
        token = self.client.fill_token()  # before the request is sent; through a parent it is the least on the path
        status, headers, body = self.ask_origin(key, request_headers)
        marked = any(name.lower() == STALE for name, _ in headers)  # a parent served it stale: passed on, not kept
        if token is not None and not marked:
            self.keep(key, request_headers, token, status, headers, body)
        if status < 500 and not marked:
            self.end_stale(key, request_headers)
        return status, headers, body

    def end_stale(self, key, request_headers):
        """The origin has answered: what is stale is not served any more, stored or not (RFC 9111, 4.3.3)."""
        with self.client.lock:
            found = self.store.find(key, request_headers)
            if found is None or not found.stale:
                return  # what has just been stored has taken its place
            self.store.evict(found.handle)
        self.client.gone(found.url, found.handle)

    def ask_origin(self, key, request_headers):
        forwarded = {name: value for name, value in request_headers.items() if name not in HOP_BY_HOP}
        for attempt in range(2):
            connection = getattr(self.connections, "it", None)
            if connection is None:
                connection = self.connections.it = http.client.HTTPConnection(self.origin, timeout=120)
                connection.connect()
                connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            try:
                connection.putrequest("GET", key[1], skip_host=True, skip_accept_encoding=True)
                for name, value in {**forwarded, "host": key[0]}.items():
                    connection.putheader(name, value)
                connection.endheaders()
                reply = connection.getresponse()
                return reply.status, reply.getheaders(), reply.read()
            except (http.client.HTTPException, OSError):
                connection.close()
                self.connections.it = None
                if attempt:  # a kept connection may have ended in between; a new one has not
                    return 502, [("Content-Type", "text/plain")], b"the origin does not answer\n"
        raise AssertionError

    def keep(self, key, request_headers, token, status, headers, body):
        lines = lambda wanted: [value for name, value in headers if name.lower() == wanted]
        control, vary = ",".join(lines("cache-control")).lower(), ",".join(lines("vary")).lower()
        age = re.search(r"\bs-maxage=(\d+)", control) or re.search(r"\bmax-age=(\d+)", control)
        if status != 200 or not age or "*" in vary or re.search(r"no-store|no-cache|private", control):
            return
        if lines("set-cookie") or "authorization" in request_headers:
            return
        varies = {name: request_headers.get(name) for name in re.findall(r"[^\s,]+", vary)}
        object = Object(
            key=key,
            handle=self.run + next(self.handles).to_bytes(8, "big"),
            url=f"http://{key[0]}{key[1]}",
            cache_tag=[line.encode("latin-1") for line in lines("cache-tag")],
            token=token,
            status=status,
            headers=[(name, value) for name, value in headers if name.lower() not in HOP_BY_HOP],
            body=body,
            expires=time.time() + int(age[1]),
            varies=varies,
            never_stale=re.search(r"\b(must|proxy)-revalidate\b", control) is not None,
        )
        left = []

        def put(stale):
            object.stale = stale
            left.extend(self.store.put(object))

        self.client.commit(object.url, object.handle, object.cache_tag, token, put)
        for known in left:
            self.client.gone(known.url, known.handle)


class Visitor(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1  # one packet an answer

    def do_GET(self):
        headers = {name.lower(): value for name, value in self.headers.items()}
        if headers.get("content-length", "0") != "0" or "transfer-encoding" in headers:
            # Neither passed on nor read: what it answers would be stored as the page, and what is left as a request.
            self.send_error(400, "A GET with a body")
            self.close_connection = True
            return
        key = (headers.get("host", "").lower(), self.path)
        found, stale = self.server.cache.lookup(key, headers)
        if found is not None:
            state = "STALE" if stale else "HIT"
            self.answer(found.status, found.headers, found.body, state)
        else:
            self.answer(*self.server.cache.fetch(key, headers), "MISS")

    def answer(self, status, headers, body, state):
        self.send_response_only(status)
        for name, value in headers:
            if name.lower() not in HOP_BY_HOP:
                self.send_header(name, value)
        if state == "STALE":
            self.send_header(STALE, "1")  # so that a child does not keep it
        self.send_header("X-Cache", state)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128


def main():
    parser = argparse.ArgumentParser(description="A caching HTTP proxy that Batoff Purge can purge.")
    parser.add_argument("--listen", default="127.0.0.1:8095", help="address and port for visitors")
    parser.add_argument("--origin", required=True, help="host:port that everything is fetched from")
    parser.add_argument("--cache", default="web", help="the name under [caches.local.caches]")
    parser.add_argument("--socket", default="/run/batoff-edge/local.sock", help="the daemon's socket")
    parser.add_argument("--room", type=int, default=100_000, help="objects that are kept at most")
    args = parser.parse_args()
    host, port = args.listen.rsplit(":", 1)
    server = Server((host, int(port)), Visitor)
    server.cache = Cache(args)
    server.serve_forever()


if __name__ == "__main__":
    main()
