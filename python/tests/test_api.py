"""The modules as programs of the original use them (spec/pithos.md sections 1 and 2)."""

import os
import select
import signal
import struct
import subprocess
import sys
import unittest
from ctypes import POINTER, addressof, cast, memmove, sizeof, string_at

from archipelago import common
from archipelago.common import (
    X_INFO,
    X_WRITE,
    XF_ASSUMEV0,
    XF_FORCE,
    XF_MAPFLAG_READONLY,
    XF_NOSYNC,
    XSEG_MAX_TARGETLEN,
    Error,
    NoPort,
    Request,
    Segment,
    Xseg_ctx,
    posixfd_signal_desc,
    xseg_create_map_scatterlist,
    xseg_reply_info,
    xseg_request_clone,
    xseg_request_create,
)
from support import BLOCK, BLOCKERB, MAPPER, SPEC, VLMC, PeersTest, segments_of

MIB = 1 << 20


class Segments(unittest.TestCase):
    def test_numbers_that_make_no_segment_are_refused(self):
        for spec, why in [
            (("shm", "name", 8, 16, 64), "Segment type not valid"),
            (("posix", "name", 8, 16, 64, 13), "Wrong alignemt"),
            (("posix", "name", 16, 16, 64), "Dynports >= max ports"),
        ]:
            with self.assertRaisesRegex(Error, why):
                Segment(*spec)

    def test_a_spec_is_what_the_peers_take(self):
        self.assertEqual(Segment(*SPEC).get_spec(), "posix:testsegment:8:16:256:12")

    def test_what_is_not_there_cannot_be_joined_and_is_destroyed(self):
        segment = Segment("posix", "no-such-segment", 8, 16, 64)
        segment.destroy()
        with self.assertRaisesRegex(Error, "Cannot join segment 'no-such-segment': .*not running"):
            segment.join()

    def test_the_old_names_are_there(self):
        for name in (
            "string_at xseg_reply_map xseg_reply_map_scatterlist xseg_join xseg_receive X_ALLOC "
            "XS_SERVED hostname ARCHIP_PREFIX is_power2 get_segment config peers BIN_DIR LOGS_PATH "
            "PIDFILE_PATH LOCK_PATH DEVICE_PREFIX xseg_wait_signal_green"
        ).split():
            self.assertTrue(hasattr(common, name), name)
        self.assertEqual(NoPort, 0xFFFFFFFF)


class Requests(PeersTest):
    def test_a_request_needs_a_target(self):
        with self.assertRaises(Error):
            Request.get_info_request(self.ctx, MAPPER, "")
        with self.assertRaises(Error):
            Request.get_info_request(self.ctx, MAPPER, "x" * 257)

    def test_names_are_text_or_bytes(self):
        self.blank(b"in-bytes", MIB)
        self.assertEqual(self.size_of("in-bytes"), MIB)
        self.snapshot(b"in-bytes", b"in-bytes-snap")
        self.clone(b"in-bytes-snap", "in-bytes-clone")
        request = Request.get_info_request(self.ctx, MAPPER, "näme")
        self.assertEqual(request.get_target(), "näme".encode())
        request.put()

    def test_fields_are_set_and_read(self):
        with Request(self.ctx, MAPPER, "target", datalen=10, op=X_INFO, v0_size=7) as request:
            for name, value in [
                ("op", 3),
                ("offset", 1 << 40),
                ("size", 1 << 41),
                ("flags", XF_ASSUMEV0),
                ("datalen", 9),
                ("v0_size", 1 << 42),
                ("serviced", 5),
            ]:
                getattr(request, "set_" + name)(value)
                self.assertEqual(getattr(request, "get_" + name)(), value)
            self.assertEqual(request.get_target(), b"target")
        self.assertFalse(request.put())
        with Request(self.ctx, MAPPER, "target") as request:
            self.assertEqual(request.get_v0_size(), (1 << 64) - 1)

    def test_builders_fill_in_what_the_peers_expect(self):
        ctx = self.ctx
        for request, op, size, flags, datalen in [
            (Request.get_write_request(ctx, 1, "target", data=b"abc"), 2, 3, 0, 3),
            (Request.get_read_request(ctx, 1, "target", size=7), 1, 7, 0, 7),
            (Request.get_info_request(ctx, 1, "target"), 11, 0, 0, 8),
            (Request.get_acquire_request(ctx, 1, "target"), 6, 0, XF_NOSYNC, 0),
            (Request.get_acquire_request(ctx, 1, "target", wait=True), 6, 0, 0, 0),
            (Request.get_release_request(ctx, 1, "target", force=True), 7, 0, XF_FORCE, 0),
            (Request.get_mapr_request(ctx, 1, "target", offset=1, size=2), 12, 2, 0, 0),
            (Request.get_mapw_request(ctx, 1, "target", offset=1, size=2), 13, 2, 0, 0),
            (Request.get_hash_request(ctx, 1, "target", size=9), 17, 9, 0, 260),
        ]:
            with request:
                got = (
                    request.get_op(),
                    request.get_size(),
                    request.get_flags(),
                    request.get_datalen(),
                )
                self.assertEqual(got, (op, size, flags, datalen))

    def test_two_names_go_where_the_original_had_them(self):
        with Request.get_copy_request(self.ctx, 1, "source", copy_target="copy") as request:
            self.assertEqual(request.get_target(), b"copy")
            self.assertEqual(string_at(request.get_data(), 6), b"source")
        with Request.get_clone_request(self.ctx, 1, "origin", clone="new", clone_size=5) as request:
            self.assertEqual(request.get_target(), b"new")
            clone = request.get_data(xseg_request_clone).contents
            self.assertEqual((clone.target, clone.targetlen, clone.size), (b"origin", 6, 5))
        with Request.get_rename_request(self.ctx, 1, "old", newname="new") as request:
            self.assertEqual(request.get_target(), b"old")

    def test_create_is_packed(self):
        objects = [{"name": "n" * 256, "flags": 1}, {"name": b"short", "flags": 0}]
        with Request.get_create_request(
            self.ctx, 1, "map", size=8, mapflags=1, objects=objects, blocksize=4
        ) as request:
            raw = string_at(request.get_data(), request.get_datalen())
        self.assertEqual(len(raw), 12 + 2 * 264)
        self.assertEqual(struct.unpack_from("=LLL", raw), (2, 4, 1))
        self.assertEqual(struct.unpack_from("=256sLL", raw, 12), (b"n" * 256, 256, 1))
        self.assertEqual(struct.unpack_from("=256sLL", raw, 276)[1:], (5, 0))
        for missing in ({"objects": objects}, {"blocksize": 4}):
            with self.assertRaises(Error):
                Request.get_create_request(self.ctx, 1, "map", size=8, **missing)

    def test_a_create_structure_is_packed_by_set_data(self):
        array = xseg_create_map_scatterlist * 2
        create = xseg_request_create(cnt=2, blocksize=BLOCK, create_flags=XF_MAPFLAG_READONLY)
        create.segs = array(*(xseg_create_map_scatterlist(b"object%d" % i, 7, 1) for i in range(2)))
        with Request(self.ctx, MAPPER, "packed", datalen=12 + 2 * 264) as request:
            request.set_data(create)
            raw = string_at(request.get_data(), 12 + 264)
        self.assertEqual(struct.unpack_from("=LLL", raw), (2, BLOCK, XF_MAPFLAG_READONLY))
        self.assertEqual(raw[12:19], b"object0")

    def test_a_reply_larger_than_its_request_is_read_as_pithos_does(self):
        self.blank("many-blocks", 200 * BLOCK)
        request = self.ask(Request.get_mapr_request(self.ctx, MAPPER, "many-blocks", 0, 200 * BLOCK))
        self.assertGreaterEqual(request.get_datalen(), 8 + 200 * 280)
        self.assertEqual(len(segments_of(request)), 200)
        request.put()

    def test_success_wants_an_answer(self):
        with Request.get_info_request(self.ctx, MAPPER, "target") as request:
            with self.assertRaises(Error):
                request.success()

    def test_a_request_under_way_is_not_freed(self):
        self.blank("under-way", MIB)
        request = Request.get_info_request(self.ctx, MAPPER, "under-way")
        request.submit()
        # Nobody has received anything yet, so its answer is not in.
        self.assertFalse(request.put())
        request.wait()
        self.assertTrue(request.put())

    def test_nobody_serves_the_port(self):
        with Request.get_info_request(self.ctx, 6, "target") as request:
            with self.assertRaisesRegex(Error, "nobody serves port 6"):
                request.submit()

    def test_answers_are_given_to_who_waits_for_them(self):
        self.blank("crowd1", MIB)
        requests = [Request.get_info_request(self.ctx, MAPPER, "crowd1") for _ in range(20)]
        for request in requests:
            request.submit()
        last = requests.pop()
        last.wait()
        self.assertTrue(last.success())
        while requests:
            requests.remove(self.ctx.wait_requests(requests))
        with self.assertRaises(Error):
            self.ctx.wait_requests([last])

    def test_any_answer_is_good_for_wait_request(self):
        self.blank("any-answer", MIB)
        request = Request.get_info_request(self.ctx, MAPPER, "any-answer")
        request.submit()
        received = self.ctx.wait_request()
        self.assertEqual(addressof(received.contents), addressof(request.req.contents))
        self.assertTrue(request.success())
        request.put()

    def test_an_answer_that_nobody_wants_is_freed(self):
        self.blank("unwanted", MIB)
        for _ in range(3):
            Request.get_info_request(self.ctx, MAPPER, "unwanted").submit()
        for _ in range(50):
            self.assertEqual(self.size_of("unwanted"), MIB)
        self.assertEqual(len(self.ctx._requests), 0)

    def test_buffers_come_back(self):
        """Far more data than the segment holds goes through one context."""
        self.blank("through", 8 * MIB)
        data = os.urandom(4 * MIB)
        for _ in range(100):
            self.write("through", data, 2 * MIB)
        self.assertEqual(self.read("through", 4 * MIB, 2 * MIB), data)

    def test_a_failed_info_shows_no_size(self):
        request = Request.get_info_request(self.ctx, MAPPER, "no-such-volume")
        memmove(request.get_data(), b"\xff" * 8, 8)
        self.ask(request, expected=False)
        self.assertEqual(request.get_data(xseg_reply_info).contents.size, 0)
        self.assertEqual(request.get_error(), 2)
        request.put()

    def test_a_context_that_is_gone_fails_and_does_not_crash(self):
        ctx = Xseg_ctx(self.segment)
        request = Request.get_info_request(ctx, MAPPER, "target")
        ctx.shutdown()
        for use in (request.submit, request.get_data, request.get_size, request.wait):
            with self.assertRaises(Error):
                use()
        request.put()
        ctx.shutdown()

    def test_structures_have_the_sizes_that_travel(self):
        self.assertEqual(sizeof(common.xseg_reply_map_scatterlist), 280)
        self.assertEqual(sizeof(xseg_create_map_scatterlist), 264)
        self.assertEqual(sizeof(xseg_request_clone), 272)
        self.assertEqual(sizeof(common.xseg_reply_hash), 260)
        self.assertEqual(common.xseg_reply_map.segs.offset, 8)
        self.assertEqual(XSEG_MAX_TARGETLEN, 256)


# A worker that binds port 4, leaves requests of it under way, says so and waits to be killed.
WORKER = """
import sys
from archipelago import common
from archipelago.common import Request, Segment, Xseg_ctx
common.set_run_dir(sys.argv[1])
ctx = Xseg_ctx(Segment(*eval(sys.argv[2])), 4)
for _ in range(64):
    Request.get_read_request(ctx, 3, "ports-", size=1 << 20).submit()
print("bound", flush=True)
sys.stdin.read()
"""


class Ports(PeersTest):
    def worker(self):
        command = [sys.executable, "-c", WORKER, common.RUN_DIR, repr(SPEC)]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

        def end():
            process.kill()
            process.wait()
            process.stdin.close()
            process.stdout.close()

        self.addCleanup(end)
        self.assertEqual(process.stdout.readline(), b"bound\n")
        return process

    def test_a_dynamic_port_is_above_the_static_ones(self):
        self.assertGreaterEqual(self.ctx.portno, 8)
        self.assertTrue(self.ctx.dynalloc)
        self.assertEqual(self.ctx.port.contents.portno, self.ctx.portno)

    def test_a_static_port_is_the_one_asked_for(self):
        with Xseg_ctx(self.segment, 5) as ctx:
            self.assertEqual((ctx.portno, ctx.dynalloc), (5, False))
            self.blank("static", MIB)
            request = Request.get_info_request(ctx, MAPPER, "static")
            request.submit()
            request.wait()
            self.assertTrue(request.success())

    def test_a_port_that_is_not_static_is_refused(self):
        for port in (8, 15, 16, 1 << 20):
            with self.assertRaisesRegex(Error, "not static"):
                Xseg_ctx(self.segment, port)

    def test_a_living_process_keeps_its_port(self):
        worker = self.worker()
        with self.assertRaisesRegex(Error, f"port 4 is in use by .*process {worker.pid}"):
            Xseg_ctx(self.segment, 4)
        with self.assertRaisesRegex(Error, "port 2 is in use by mapperd"):
            Xseg_ctx(self.segment, MAPPER)

    def test_a_dead_workers_port_is_taken_over_and_no_stale_answer_arrives(self):
        self.blank("ports-", MIB)
        for _ in range(10):
            worker = self.worker()
            worker.send_signal(signal.SIGKILL)
            worker.wait()
            with Xseg_ctx(self.segment, 4) as ctx:
                seen = 0
                for _ in range(64):
                    request = Request.get_read_request(ctx, VLMC, "ports-", size=512)
                    request.submit()
                    received = ctx.wait_request()
                    # Nothing but what this context asked for.
                    self.assertEqual(
                        addressof(received.contents), addressof(request.req.contents)
                    )
                    self.assertEqual(request.get_serviced(), 512)
                    request.put()
                    seen += 1
                self.assertFalse(ctx.receive())
                self.assertEqual(seen, 64)

    def test_a_port_can_be_bound_again_by_its_process(self):
        first = Xseg_ctx(self.segment, 6)
        second = Xseg_ctx(self.segment, 6)
        self.assertEqual(second.portno, 6)
        first.shutdown()
        request = Request.get_info_request(second, MAPPER, "no-such-volume")
        request.submit()
        request.wait()
        second.shutdown()
        Xseg_ctx(self.segment, 6).shutdown()

    def test_contexts_come_and_go(self):
        for _ in range(300):
            Xseg_ctx(self.segment).shutdown()

    def test_as_many_contexts_as_dynamic_ports(self):
        contexts = []
        with self.assertRaisesRegex(Error, "every dynamic port"):
            for _ in range(9):
                contexts.append(Xseg_ctx(self.segment))
        for ctx in contexts:
            ctx.shutdown()
        Xseg_ctx(self.segment).shutdown()

    def test_a_forked_child_does_not_keep_its_parents_port(self):
        worker = self.worker()
        worker.kill()
        worker.wait()
        ctx = Xseg_ctx(self.segment, 5)
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            code = 1
            try:
                os.close(write)
                # The handle is the parent's.
                Request.get_info_request(ctx, MAPPER, "no-such-volume")
            except Error:
                with Xseg_ctx(self.segment) as own:
                    request = Request.get_info_request(own, MAPPER, "no-such-volume")
                    request.submit()
                    request.wait()
                    code = 0
            finally:
                os.read(read, 1)
                os._exit(code)
        os.close(read)
        ctx.shutdown()
        self.ctx.shutdown()
        command = [sys.executable, "-c", WORKER.replace("), 4)", "), 5)"), common.RUN_DIR, repr(SPEC)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
            # The child lives, and the port is free all the same.
            self.assertEqual(other.stdout.readline(), b"bound\n")
            other.stdin.close()
        os.close(write)
        self.assertEqual(os.waitpid(child, 0)[1], 0)


def green(ctx, sd, timeout):
    """What Pithos puts in the place of `xseg_wait_signal_green`."""
    fd = cast(sd, POINTER(posixfd_signal_desc)).contents.fd
    select.select([fd], [], [], timeout / 1000000.0)
    while True:
        try:
            os.read(fd, 512)
        except OSError as why:
            if why.errno == 11:
                break
            raise


class Waiting(PeersTest):
    def tearDown(self):
        common.xseg_wait_signal_green = original

    def test_the_wait_of_the_module_is_looked_up_each_time(self):
        calls = []

        def counted(ctx, sd, timeout):
            calls.append(timeout)
            green(ctx, sd, timeout)

        common.xseg_wait_signal_green = counted
        self.blank("green1", MIB)
        for _ in range(200):
            self.size_of("green1")
        self.assertGreater(len(calls), 0)

    def test_the_descriptor_is_an_integer_that_does_not_block(self):
        desc = cast(self.ctx.signal_desc, POINTER(posixfd_signal_desc)).contents
        self.assertEqual((posixfd_signal_desc.fd.offset, posixfd_signal_desc.flag.offset), (16, 20))
        self.assertFalse(os.get_blocking(desc.fd))
        self.assertLess(desc.fd, 1024)
        self.ctx.prepare_wait()
        self.assertEqual(desc.flag, 1)
        self.assertEqual(select.select([desc.fd], [], [], 0)[0], [])
        self.blank_unreceived()
        self.assertEqual(select.select([desc.fd], [], [], 60)[0], [desc.fd])
        self.ctx.cancel_wait()
        self.assertEqual(desc.flag, 0)
        self.assertTrue(self.ctx.receive())

    def blank_unreceived(self):
        request = Request.get_clone_request(self.ctx, MAPPER, "", "unreceived", MIB)
        request.submit()

    def test_a_node_that_goes_away_ends_the_wait(self):
        """The peers are killed with a request under way, then the segment's holder."""
        lock = os.path.join(self.peers.dir, "locks", "waiting_lock")
        self.blank("waiting", MIB)
        with open(lock, "x", encoding="ascii") as holder:
            holder.write("another-host_7")
        request = Request.get_mapw_request(self.ctx, MAPPER, "waiting", size=512)
        request.submit()
        for peer in self.peers.all:
            process = os.pidfd_open(peer.get_pid())
            os.kill(peer.get_pid(), signal.SIGKILL)
            select.select([process], [], [])
            os.close(process)
        self.segment.destroy()
        with self.assertRaisesRegex(Error, "went away"):
            request.wait()
        with self.assertRaisesRegex(Error, "Cannot join"):
            Xseg_ctx(self.segment)
        # Started anew, it is joined anew.
        os.unlink(lock)
        self.peers.start()
        with Xseg_ctx(self.segment) as ctx:
            request = Request(ctx, BLOCKERB, "object", op=X_WRITE, data=b"x", size=1)
            request.submit()
            request.wait()
            self.assertTrue(request.success())


original = common.xseg_wait_signal_green
