"""Real peers for the tests, each program by itself, in a folder of its own.

The segment and the ports are those of the original's test-suite (spec/protocol.md section 7).
"""

import os
import shutil
import tempfile
import unittest
from ctypes import addressof, string_at

from archipelago import common
from archipelago.common import (
    Error,
    Filed,
    Mapperd,
    Request,
    Segment,
    Vlmcd,
    Xseg_ctx,
    xseg_reply_info,
    xseg_reply_map,
    xseg_reply_map_scatterlist,
)

SPEC = ("posix", "testsegment", 8, 16, 256, 12)
BLOCKERB, BLOCKERM, MAPPER, VLMC = 0, 1, 2, 3
BLOCK = 4 << 20
ZERO_BLOCK = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


class Peers:
    """A segment, and the four peers on it."""

    def __init__(self, spec=SPEC, ports=(BLOCKERB, BLOCKERM, MAPPER, VLMC)):
        blockerb, blockerm, mapper, vlmc = ports
        self.dir = tempfile.mkdtemp(prefix="archip")
        common.set_run_dir(os.path.join(self.dir, "run"))
        common.LOGS_PATH = os.path.join(self.dir, "log")
        for name in ("blocks", "maps", "locks", "run", "log"):
            os.mkdir(os.path.join(self.dir, name))
        self.segment = Segment(*spec)
        spec = self.segment.get_spec()

        def blocker(role, port, objects):
            return Filed(
                role=role,
                spec=spec,
                portno_start=port,
                portno_end=port,
                archip_dir=os.path.join(self.dir, objects),
                lock_dir=os.path.join(self.dir, "locks"),
                # Temporary folders may lie on a filesystem without O_DIRECT.
                direct=False,
                nr_ops=64,
                log_level=1,
            )

        def at(port):
            return {"spec": spec, "portno_start": port, "portno_end": port, "nr_ops": 64}

        self.blockerb = blocker("blockerb", blockerb, "blocks")
        self.blockerm = blocker("blockerm", blockerm, "maps")
        self.mapperd = Mapperd(
            role="mapperd", blockerm_port=blockerm, blockerb_port=blockerb, **at(mapper)
        )
        self.vlmcd = Vlmcd(role="vlmcd", blocker_port=blockerb, mapper_port=mapper, **at(vlmc))
        self.all = [self.blockerb, self.blockerm, self.mapperd, self.vlmcd]

    def start(self):
        self.segment.create()
        for peer in self.all:
            peer.start()

    def stop(self):
        for peer in reversed(self.all):
            if peer.is_running():
                peer.stop()
        self.segment.destroy()
        shutil.rmtree(self.dir)


class PeersTest(unittest.TestCase):
    """Tests with peers of their own class, and a context of each test."""

    @classmethod
    def setUpClass(cls):
        cls.peers = Peers()
        cls.addClassCleanup(cls.peers.stop)
        cls.peers.start()
        cls.segment = cls.peers.segment

    def setUp(self):
        self.ctx = Xseg_ctx(self.segment)
        self.addCleanup(self.ctx.shutdown)

    def ask(self, request, expected=True):
        """Sends a request, and checks how it ends; returns it answered."""
        request.submit()
        request.wait()
        self.assertEqual(request.success(), expected, f"errno {request.get_error()}")
        return request

    def do(self, request, expected=True):
        """The same, and frees it."""
        self.assertTrue(self.ask(request, expected).put())

    def size_of(self, target, port=MAPPER, expected=True):
        request = self.ask(Request.get_info_request(self.ctx, port, target), expected)
        size = request.get_data(xseg_reply_info).contents.size
        request.put()
        return size

    def clone(self, target, clone, size=0, expected=True):
        self.do(Request.get_clone_request(self.ctx, MAPPER, target, clone, size), expected)

    def blank(self, name, size, expected=True):
        self.clone("", name, size, expected)

    def snapshot(self, name, snap, expected=True, port=VLMC):
        self.do(Request.get_snapshot_request(self.ctx, port, name, snap), expected)

    def read(self, target, size, offset=0, port=VLMC, expected=True):
        request = self.ask(
            Request.get_read_request(self.ctx, port, target, size=size, offset=offset), expected
        )
        data = string_at(request.get_data(), request.get_serviced()) if expected else b""
        request.put()
        return data

    def write(self, target, data, offset=0, port=VLMC, expected=True):
        request = Request.get_write_request(self.ctx, port, target, data=data, offset=offset)
        self.ask(request, expected)
        self.assertEqual(request.get_serviced(), len(data) if expected else 0)
        request.put()

    def map(self, builder, target, size, offset=0, expected=True):
        """MAPR or MAPW: (name, flags, offset, size) of each segment."""
        request = self.ask(builder(self.ctx, MAPPER, target, offset=offset, size=size), expected)
        found = segments_of(request) if expected else []
        request.put()
        return found

    def mapr(self, target, size, offset=0, expected=True):
        return self.map(Request.get_mapr_request, target, size, offset, expected)

    def mapw(self, target, size, offset=0, expected=True):
        return self.map(Request.get_mapw_request, target, size, offset, expected)

    def open(self, name, expected=True):
        self.do(Request.get_open_request(self.ctx, VLMC, name), expected)

    def close(self, name, expected=True):
        self.do(Request.get_close_request(self.ctx, VLMC, name), expected)


def segments_of(request):
    """The segments of a map reply, read as Pithos reads them."""
    reply = request.get_data(xseg_reply_map).contents
    array = xseg_reply_map_scatterlist * reply.cnt
    segs = array.from_address(addressof(reply.segs))
    return [
        (string_at(addressof(seg), seg.targetlen).decode(), seg.flags, seg.offset, seg.size)
        for seg in segs
    ]


__all__ = [
    "BLOCK",
    "BLOCKERB",
    "BLOCKERM",
    "Error",
    "MAPPER",
    "Peers",
    "PeersTest",
    "SPEC",
    "VLMC",
    "ZERO_BLOCK",
    "segments_of",
]
