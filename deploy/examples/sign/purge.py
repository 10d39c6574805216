#!/usr/bin/env python3
"""Purges a URL and tags, and waits until no node can serve them any more. Python's standard library is all it needs.

    export BATOFF_API=https://purge.example.net BATOFF_SITE=shop BATOFF_TOKEN=bto_live_… BATOFF_SECRET=bts_live_…
    purge.py https://www.example.com/index.html product:42 category:shoes
"""
import hashlib
import hmac
import json
import os
import sys
import time
import urllib.error
import urllib.request
import uuid

API, SITE, TOKEN, SECRET = (os.environ.get(f"BATOFF_{name}", "") for name in ("API", "SITE", "TOKEN", "SECRET"))


class Refused(Exception):
    """The API's answer is a problem: application/problem+json, RFC 9457."""


def signature(timestamp, method, target, body, key):
    lines = [timestamp, method, target, hashlib.sha256(body).hexdigest()]
    if key:
        lines.append(key)
    return hmac.new(SECRET.encode(), "\n".join(lines).encode(), hashlib.sha256).hexdigest()


def send(method, target, body=b"", key=None):
    """One request, signed over the very bytes that are sent. Each try is signed anew; the key makes them one purge."""
    for attempt in range(5):
        now = time.time_ns()
        timestamp = f"{now // 10**9}.{now % 10**9:09}"
        headers = {
            "Authorization": f"Bearer {TOKEN}",
            "X-Batoff-Timestamp": timestamp,
            "X-Batoff-Signature": "sha256=" + signature(timestamp, method, target, body, key),
        }
        if body:
            headers["Content-Type"] = "application/json"
        if key:
            headers["Idempotency-Key"] = key
        request = urllib.request.Request(API.rstrip("/") + target, body or None, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=60) as reply:
                return json.load(reply)
        except urllib.error.HTTPError as error:
            failure, pause = refusal(error), error.headers.get("Retry-After")
            if error.code not in (429, 503):
                raise failure from None
        except OSError as error:  # no connection, or one that broke: whether it arrived is unknown
            failure, pause = Refused(f"{API} cannot be reached: {error}"), None
        if attempt == 4:
            raise failure
        time.sleep(int(pause or 2**attempt))


def refusal(error):
    text = error.read().decode("utf-8", "replace")
    try:
        problem = json.loads(text)
        lines = [f"{problem['title']} ({problem['status']} {problem['code']}): {problem.get('detail', '')}"]
        for item in problem.get("errors", []):
            lines.append(f"  {item.get('pointer') or item.get('parameter')}: {item['detail']}")
        return Refused("\n".join(lines))
    except (ValueError, KeyError, TypeError):
        return Refused(f"HTTP status {error.code}: {text[:200]}")


def main(url, *tags):
    # One key for one purge. A deploy script takes the id of its deployment, and may run again without harm.
    key = os.environ.get("BATOFF_KEY") or str(uuid.uuid4())
    body = json.dumps({"urls": [url], "tags": list(tags)}, ensure_ascii=False).encode()
    task = send("POST", f"/v1/sites/{SITE}/purge", body, key)
    print(task["task_id"], flush=True)  # from here on it takes effect, whatever happens to this script

    deadline = time.monotonic() + 60
    while task["state"] != "completed":
        if time.monotonic() > deadline:
            raise Refused(f"not completed after 60 s: {task['state']}, {task['nodes']}")
        # The answer is held until it is completed, at most 20 s. The query is a part of what is signed.
        task = send("GET", f"/v1/sites/{SITE}/purge/{task['task_id']}?wait=20")
    print(f"completed in {task['propagation_ms']} ms on {task['nodes']['total']} nodes")


if __name__ == "__main__":
    if not all((API, SITE, TOKEN, SECRET)):
        sys.exit("set BATOFF_API, BATOFF_SITE, BATOFF_TOKEN and BATOFF_SECRET")
    if len(sys.argv) < 2:
        sys.exit("usage: purge.py URL [TAG…]")
    try:
        main(*sys.argv[1:])
    except Refused as refused:
        sys.exit(str(refused))
