"""A store in the manner of Pithos' hashfiler: blocks by hash, maps by name, old maps read in place.

Written from spec/pithos.md sections 2 to 4: the requests, their ports, flags and lengths are those
that Pithos sends.
"""

import hashlib
import os
from ctypes import addressof

from archipelago.common import (
    XF_ASSUMEV0,
    XF_MAPFLAG_READONLY,
    Request,
    Xseg_ctx,
    string_at,
    xseg_reply_info,
    xseg_reply_map,
    xseg_reply_map_scatterlist,
)

BLOCK = 4 << 20
EMPTY = hashlib.sha256(b"").hexdigest()


def block_hash(data):
    """The hash of a block: of its bytes without the zeros at its end."""
    return hashlib.sha256(data.rstrip(b"\0")).hexdigest()


def merkle(hashes):
    """The old name of a map."""
    level = [bytes.fromhex(one) for one in hashes] or [hashlib.sha256(b"").digest()]
    if len(level) == 1:
        return level[0].hex()
    size = 2
    while size < len(level):
        size *= 2
    level += [bytes(32)] * (size - len(level))
    while len(level) > 1:
        pairs = zip(level[::2], level[1::2])
        level = [hashlib.sha256(a + b).digest() for a, b in pairs]
    return level[0].hex()


def static_ports(worker, pool_size):
    """Which ports a gunicorn worker binds; workers count from 1."""
    if worker == 1:
        return range(2, pool_size + 2)
    return range((worker - 1) * pool_size + 3, worker * pool_size + 3)


class Pool:
    """Contexts, each of which one greenlet uses at a time."""

    def __init__(self, segment, ports, queue):
        self.queue = queue
        self.contexts = [Xseg_ctx(segment, port) for port in ports]
        for ctx in self.contexts:
            queue.put(ctx)

    def shutdown(self):
        for ctx in self.contexts:
            ctx.shutdown()


class Borrowed:
    """`pool_get` and `pool_put` around a request."""

    def __init__(self, pool):
        self.pool = pool

    def __enter__(self):
        self.ctx = self.pool.queue.get()
        return self.ctx

    def __exit__(self, *_):
        self.pool.queue.put(self.ctx)


class Store:
    """Blocks and maps."""

    def __init__(self, pool, blockerb, mapperd):
        self.pool = pool
        self.blockerb = blockerb
        self.mapperd = mapperd

    # ---- blocks ----

    def has_block(self, name):
        with Borrowed(self.pool) as ctx:
            request = Request.get_info_request(ctx, self.blockerb, name)
            request.submit()
            request.wait()
            found = request.success()
            request.put()
            return found

    def store_block(self, data):
        """Stores a block unless it is there, and returns its hash."""
        name = block_hash(data)
        if name == EMPTY or self.has_block(name):
            return name
        with Borrowed(self.pool) as ctx:
            request = Request.get_write_request(
                ctx, self.blockerb, name, data=data, datalen=len(data), offset=0
            )
            request.submit()
            request.wait()
            stored = request.success()
            request.put()
        if not stored:
            raise IOError(f"Could not write block {name}")
        return name

    def read_block(self, name):
        """A whole block, filled up with zeros."""
        if name == EMPTY:
            return bytes(BLOCK)
        with Borrowed(self.pool) as ctx:
            request = Request.get_read_request(
                ctx, self.blockerb, name, size=BLOCK, datalen=BLOCK, offset=0
            )
            request.submit()
            request.wait()
            found = request.success()
            data = string_at(request.get_data(), request.get_serviced()) if found else b""
            request.put()
        if not found:
            raise IOError(f"Bad block file: {name}")
        return data

    # ---- maps ----

    def store_map(self, name, hashes, size):
        objects = [{"name": one, "flags": XF_MAPFLAG_READONLY} for one in hashes]
        with Borrowed(self.pool) as ctx:
            request = Request.get_create_request(
                ctx,
                self.mapperd,
                name,
                size=size,
                mapflags=XF_MAPFLAG_READONLY,
                objects=objects,
                blocksize=BLOCK,
            )
            request.submit()
            request.wait()
            stored = request.success()
            request.put()
        if not stored:
            raise IOError("Could not write map")

    def read_map(self, name, size):
        """The hashes of an object of ``size`` bytes."""
        with Borrowed(self.pool) as ctx:
            request = Request.get_mapr_request(ctx, self.mapperd, name, offset=0, size=size)
            request.set_flags(XF_ASSUMEV0)
            request.set_v0_size(size)
            request.submit()
            request.wait()
            if not request.success():
                request.put()
                raise IOError(f"Could not read map {name}")
            reply = request.get_data(xseg_reply_map).contents
            segs = (xseg_reply_map_scatterlist * reply.cnt).from_address(addressof(reply.segs))
            hashes = [string_at(seg.target, seg.targetlen).decode() for seg in segs]
            request.put()
            close = Request.get_close_request(ctx, self.mapperd, name)
            close.submit()
            close.wait()
            # Its failure means nothing: another may have closed it.
            close.success()
            close.put()
            return hashes

    # ---- objects ----

    def store(self, name, content):
        blocks = [content[at : at + BLOCK] for at in range(0, len(content), BLOCK)]
        self.store_map(name, [self.store_block(block) for block in blocks], len(content))

    def read(self, name, size):
        hashes = self.read_map(name, size)
        return b"".join(self.read_block(one) for one in hashes)[:size]


def store_the_old_way(root, content):
    """An object as Pithos before Archipelago left it: blocks and a map of raw hashes, each at its
    first six characters. Returns the map's name."""

    def put(kind, name, data):
        folder = os.path.join(root, kind, name[0:2], name[2:4], name[4:6])
        os.makedirs(folder, exist_ok=True)
        with open(os.path.join(folder, name), "wb") as opened:
            opened.write(data)

    hashes = []
    for at in range(0, len(content), BLOCK):
        block = content[at : at + BLOCK].rstrip(b"\0")
        hashes.append(hashlib.sha256(block).hexdigest())
        put("blocks", hashes[-1], block)
    name = merkle(hashes)
    put("maps", name, b"".join(bytes.fromhex(one) for one in hashes))
    return name
