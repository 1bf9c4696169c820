"""Look-aside in Python: twenty callers want one URL, one of them fetches it, all have it.

Each caller asks koorde first (Cache.Lease). Whoever is told to makes the request with Python's own
client and puts what came (Cache.Put); the others are answered as soon as it arrives, on whatever node
they asked. Run it against `koorde dev`; README.md beside it says what you should see.
"""

import importlib
import pathlib
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request

import grpc
from grpc_tools import protoc

NODES = ["127.0.0.1:8080", "127.0.0.1:8081"]
# Another one each time, so that nothing of it is stored yet; or the one given.
URL = sys.argv[1] if len(sys.argv) > 1 else f"http://127.0.0.1:9000/page?{time.time_ns()}"
CALLERS = 20
CHUNK = 64 * 1024
CONDITIONS = {
    "if-none-match",
    "if-modified-since",
    "if-match",
    "if-unmodified-since",
    "if-range",
}


def stubs():
    """The client's code, made from the .proto file when it is needed."""
    proto = pathlib.Path(__file__).resolve().parents[3] / "proto"
    made = tempfile.mkdtemp()
    file = "koorde/cache/v1/cache.proto"
    flags = [f"-I{proto}", f"--python_out={made}", f"--grpc_python_out={made}"]
    if protoc.main(["protoc", *flags, file]) != 0:
        sys.exit(f"{file} cannot be compiled")
    sys.path.insert(0, made)
    module = "koorde.cache.v1.cache_pb2"
    return importlib.import_module(module), importlib.import_module(module + "_grpc")


pb, rpc = stubs()


class Koorde:
    """One node. Puts have a connection of their own: leases that wait may use up all streams of theirs."""

    def __init__(self, node):
        own_connection = [("grpc.use_local_subchannel_pool", 1)]
        self.leases = rpc.CacheStub(grpc.insecure_channel(node, own_connection))
        self.puts = rpc.CacheStub(grpc.insecure_channel(node, own_connection))

    def get(self, url, fields=()):
        """How it was come by, its status and its body. Koorde in trouble is no trouble of the caller's."""
        target = pb.Target(method="GET", url=url, fields=[field(*f) for f in fields])
        call = self.leases.Lease(pb.LeaseRequest(target=target), timeout=30)
        try:
            first = next(call)
            part = first.WhichOneof("part")
            if part == "granted" and not first.granted.renews:
                return self.fetch_and_put(url, fields, first.granted, call)
            if part == "granted":
                # Stale but usable. A real client would fetch and put in the background now.
                first = next(call)
                part = "head"
            if part == "head":
                return "koorde answered", first.head.status, whole(call)
            why = first.alone.cache_status if part == "alone" else first.failed.message
        except (grpc.RpcError, StopIteration) as error:
            why = getattr(error, "details", lambda: "the call ended")()
        finally:
            call.cancel()
        status, _, body = fetch(url, fields)
        return f"fetched alone ({why})", status, body.read()

    def fetch_and_put(self, url, fields, granted, call):
        """The request is ours to make: others wait for what is put. `call` is open all the while."""
        own = [f for f in fields if f[0].lower() not in CONDITIONS]
        conditions = [(f.name, f.value.decode("latin-1")) for f in granted.conditions]
        # Raising from here ends the call, and the next who waits gets the lease.
        status, head, body = fetch(url, own + conditions)
        taken = []

        def requests():
            put = pb.PutHead(lease=granted.lease, status=status, fields=head)
            yield pb.PutRequest(head=put)
            length = 0
            while chunk := body.read(CHUNK):
                taken.append(chunk)
                length += len(chunk)
                yield pb.PutRequest(chunk=pb.Chunk(data=chunk))
            yield pb.PutRequest(end=pb.End(length=length))

        try:
            result = self.puts.Put(requests()).result
        except grpc.RpcError:
            result = pb.PutReply.LEASE_LOST
        if result == pb.PutReply.ANSWER_FOLLOWS:
            # What came (a 304, say) is not the answer: what is stored is.
            stored = next(call)
            return "fetched, and koorde answered", stored.head.status, whole(call)
        # The reply may come before all is read: then nobody needs the rest but us.
        rest = b"".join(taken) + body.read()
        return f"fetched, {pb.PutReply.Result.Name(result)}", status, rest


def whole(call):
    """The body behind a head; an incomplete one is an error."""
    body = b""
    for reply in call:
        part = reply.WhichOneof("part")
        if part == "chunk":
            body += reply.chunk.data
        elif part == "end" and reply.end.length == len(body):
            return body
        else:
            break
    raise EOFError(f"the body was cut off after {len(body)} bytes")


def field(name, value):
    return pb.Field(name=name, value=value.encode("latin-1"))


def fetch(url, fields):
    """The app's own client: status, fields, body to be read."""
    request = urllib.request.Request(url, headers=dict(fields))
    try:
        response = urllib.request.urlopen(request, timeout=20)
    except urllib.error.HTTPError as error:
        response = error
    return response.status, [field(n, v) for n, v in response.headers.items()], response


def main():
    nodes = [Koorde(node) for node in NODES]
    rows = [None] * CALLERS

    def caller(n):
        rows[n] = nodes[n % len(nodes)].get(URL)

    threads = [threading.Thread(target=caller, args=(n,)) for n in range(CALLERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for how in sorted({row[0] for row in rows}):
        print(f"{sum(row[0] == how for row in rows):3} {how}")
    same = len({row[1:] for row in rows}) == 1
    fetched = sum(row[0].startswith("fetched") for row in rows)
    print(f"{fetched} of {CALLERS} made a request; all have the same: {'yes' if same else 'NO'}")
    return 0 if same and fetched <= 1 else 1


if __name__ == "__main__":
    sys.exit(main())
