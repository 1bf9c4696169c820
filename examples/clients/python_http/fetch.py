"""Koorde from Python's standard library: the sidecar fetches, `/cache?url=` is all there is to know.

Run it against `koorde dev`; README.md beside it says what you should see.
"""

import sys
import urllib.error
import urllib.parse
import urllib.request

KOORDE = ["http://127.0.0.1:8080", "http://127.0.0.1:8081"]


def get(koorde, url, fields=()):
    """The response for a URL; from the origin itself if koorde is not there."""
    through = f"{koorde}/cache?url={urllib.parse.quote(url, safe='')}"
    for where in (through, url):
        try:
            return urllib.request.urlopen(
                urllib.request.Request(where, headers=dict(fields)), timeout=30
            )
        except urllib.error.HTTPError as error:
            # An answer all the same; koorde's own failures have a Cache-Status without `fwd` or `hit`.
            told = error.headers.get("Cache-Status", "")
            if where == url or "fwd=" in told or "hit" in told:
                return error
        except urllib.error.URLError:
            if where == url:
                raise
    raise AssertionError("the second of two either returns or raises")


def main():
    url = sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:9000/page"
    told = []
    for koorde in KOORDE + KOORDE[:1]:
        with get(koorde, url) as response:
            body = response.read()
            told.append(response.headers.get_all("Cache-Status") or ["none: straight from the origin"])
            print(f"{response.status} {len(body)} bytes through {koorde}")
            print(f"    Cache-Status: {', '.join(told[-1])}")
    return 0 if any("hit" in member for member in told[-1]) else 1


if __name__ == "__main__":
    sys.exit(main())
