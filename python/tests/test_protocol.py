"""The behaviours that the original's own test-suite relied on (spec/protocol.md section 7)."""

import hashlib
import os

from archipelago.common import (
    X_FLUSH,
    X_WRITE,
    XF_FLUSH,
    XF_MAPFLAG_READONLY,
    XF_MAPFLAG_ZERO,
    Request,
)
from support import BLOCK, BLOCKERB, BLOCKERM, MAPPER, VLMC, ZERO_BLOCK, PeersTest

MIB = 1 << 20


class Volumes(PeersTest):
    def test_opening_twice_succeeds_and_closing_twice_does_not(self):
        self.blank("opened", 10 * MIB)
        self.open("opened")
        self.open("opened")
        self.close("opened")
        self.close("opened", expected=False)

    def test_closing_what_was_never_opened_fails(self):
        self.blank("never-opened", 10 * MIB)
        self.close("never-opened", expected=False)
        self.close("no-such-volume", expected=False)

    def test_what_was_never_written_reads_as_zeros(self):
        self.blank("unwritten", 10 * MIB)
        self.assertEqual(self.read("unwritten", 512 << 10, 3 * MIB), bytes(512 << 10))

    def test_a_missing_volume_is_neither_read_nor_written(self):
        self.read("missing-volume", 4096, expected=False)
        self.write("missing-volume", b"x" * 4096, expected=False)

    def test_what_was_written_is_read(self):
        self.blank("written", 10 * MIB)
        data = os.urandom(300_000)
        # Over the edge of a block.
        self.write("written", data, BLOCK - 100_000)
        self.assertEqual(self.read("written", len(data), BLOCK - 100_000), data)

    def test_info_is_the_exact_size(self):
        for size in (1, 4095, 4 * MIB + 3):
            self.blank(f"size-{size}", size)
            self.assertEqual(self.size_of(f"size-{size}"), size)
            self.assertEqual(self.size_of(f"size-{size}", port=VLMC), size)
        self.size_of("missing-volume", expected=False)

    def test_a_blank_volume_has_a_size(self):
        self.blank("nothing", 0, expected=False)

    def test_a_name_is_taken_once(self):
        self.blank("twice-", 10 * MIB)
        self.blank("twice-", 10 * MIB, expected=False)

    def test_a_deleted_name_can_be_used_again_with_the_next_epoch(self):
        self.blank("again-", 10 * MIB)
        self.do(Request.get_delete_request(self.ctx, VLMC, "again-"))
        self.read("again-", 512, expected=False)
        self.blank("again-", 10 * MIB)
        name = self.mapw("again-", 512)[0][0]
        self.assertEqual(name, "again-_%016x_%016x" % (2, 0))

    def test_a_snapshot_is_taken_once_and_keeps_its_content(self):
        self.blank("source", 10 * MIB)
        self.write("source", b"old" * 1000)
        self.snapshot("source", "source-snap")
        self.snapshot("source", "source-snap", expected=False)
        self.write("source", b"new" * 1000)
        self.assertEqual(self.read("source-snap", 3000), b"old" * 1000)
        self.write("source-snap", b"x", expected=False)
        self.snapshot("missing-volume", "missing-snap", expected=False)

    def test_a_clone_is_at_least_as_large_as_its_parent(self):
        self.blank("parent", 10 * MIB)
        self.write("parent", b"content")
        self.clone("parent", "of-a-volume", expected=False)
        self.snapshot("parent", "parent-snap")
        self.clone("parent-snap", "smaller", 5 * MIB, expected=False)
        self.clone("parent-snap", "as-large")
        self.clone("parent-snap", "larger", 20 * MIB)
        self.assertEqual(self.size_of("as-large"), 10 * MIB)
        self.assertEqual(self.size_of("larger"), 20 * MIB)
        self.assertEqual(self.read("larger", 7), b"content")
        self.clone("no-such-snap", "orphan", expected=False)


class Maps(PeersTest):
    def test_a_range_past_the_end_is_refused(self):
        self.blank("ranges", 10 * MIB)
        for ask in (self.mapr, self.mapw):
            self.assertEqual(len(ask("ranges", 10 * MIB)), 3)
            ask("ranges", 10 * MIB + 1, expected=False)
            ask("ranges", 1, 10 * MIB, expected=False)
            ask("ranges", MIB, (1 << 64) - MIB, expected=False)

    def test_segments_cover_the_range(self):
        self.blank("covered", 10 * MIB)
        found = self.mapr("covered", 6 * MIB, 3 * MIB)
        self.assertEqual(
            found,
            [
                (ZERO_BLOCK, XF_MAPFLAG_ZERO, 3 * MIB, MIB),
                (ZERO_BLOCK, XF_MAPFLAG_ZERO, 0, 4 * MIB),
                (ZERO_BLOCK, XF_MAPFLAG_ZERO, 0, MIB),
            ],
        )

    def test_what_mapw_answered_survives_the_mapper(self):
        self.blank("survivor", 10 * MIB)
        written = self.mapw("survivor", 8 * MIB)
        expected = [("survivor_%016x_%016x" % (1, i), 0, 0, BLOCK) for i in range(2)]
        self.assertEqual(written, expected)
        self.peers.mapperd.stop()
        self.peers.mapperd.start()
        self.assertEqual(self.mapr("survivor", 8 * MIB), written)

    def test_many_read_a_map_whose_lock_is_somebody_elses(self):
        self.blank("shared", 10 * MIB)
        lock = os.path.join(self.peers.dir, "locks", "shared_lock")
        with open(lock, "x", encoding="ascii") as holder:
            holder.write("another-host_7")
        requests = [
            Request.get_mapr_request(self.ctx, MAPPER, "shared", size=10 * MIB) for _ in range(8)
        ]
        for request in requests:
            request.submit()
        for request in requests:
            request.wait()
            self.assertTrue(request.success())
            request.put()
        # Who wants to write waits until the other has given it back.
        write = Request.get_mapw_request(self.ctx, MAPPER, "shared", size=512)
        write.submit()
        self.mapr("shared", 512)
        self.assertTrue(write.is_under_way())
        os.unlink(lock)
        write.wait()
        self.assertTrue(write.success())
        write.put()

    def test_a_renamed_volume_keeps_its_objects(self):
        self.blank("oldname", 10 * MIB)
        objects = self.mapw("oldname", 10 * MIB)
        self.do(Request.get_rename_request(self.ctx, MAPPER, "oldname", "newname"))
        self.mapr("oldname", 512, expected=False)
        self.mapw("oldname", 512, expected=False)
        self.assertEqual(self.mapr("newname", 10 * MIB), objects)
        self.blank("newname", 10 * MIB, expected=False)
        self.snapshot("newname", "newname-snap")
        self.assertEqual(self.mapw("newname", 512)[0][0], "newname_%016x_%016x" % (2, 0))
        self.do(Request.get_rename_request(self.ctx, MAPPER, "oldname", "other-"), expected=False)

    def create(self, name, size, objects, mapflags=0, blocksize=BLOCK, expected=True):
        self.do(
            Request.get_create_request(
                self.ctx,
                MAPPER,
                name,
                size=size,
                mapflags=mapflags,
                objects=objects,
                blocksize=blocksize,
            ),
            expected,
        )

    def test_create_wants_one_object_for_each_block(self):
        names = [hashlib.sha256(b"%d" % i).hexdigest() for i in range(3)]
        objects = [{"name": name, "flags": XF_MAPFLAG_READONLY} for name in names]
        self.create("too-few", 12 * MIB, objects[:2], expected=False)
        self.create("too-many", 8 * MIB, objects, expected=False)
        self.create("no-size", 0, [], expected=False)
        self.create("in-order", 12 * MIB, objects, XF_MAPFLAG_READONLY)
        self.assertEqual([found[0] for found in self.mapr("in-order", 12 * MIB)], names)
        self.create("in-order", 12 * MIB, objects, XF_MAPFLAG_READONLY, expected=False)

    def test_a_read_only_map_is_not_mapped_for_writing(self):
        name = hashlib.sha256(b"read-only").hexdigest()
        objects = [{"name": name, "flags": XF_MAPFLAG_READONLY}]
        self.create("read-only", BLOCK, objects, XF_MAPFLAG_READONLY)
        self.mapw("read-only", 512, expected=False)

    def test_writable_objects_of_create_keep_their_names(self):
        objects = [{"name": "object-of-mine", "flags": 0}]
        self.create("of-objects", BLOCK, objects)
        self.assertEqual(self.mapw("of-objects", 512)[0][0], "object-of-mine")

    def test_update_brings_a_map_to_the_current_version(self):
        self.blank("current", 10 * MIB)
        self.do(Request.get_update_request(self.ctx, MAPPER, "current"))
        self.do(Request.get_update_request(self.ctx, MAPPER, "missing"), expected=False)

    def test_only_snapshots_are_hashed(self):
        self.blank("hashed", 8 * MIB)
        self.write("hashed", b"content")
        self.do(Request.get_hash_request(self.ctx, MAPPER, "hashed", size=0), expected=False)
        self.snapshot("hashed", "hashed-snap")
        request = self.ask(Request.get_hash_request(self.ctx, MAPPER, "hashed-snap"))
        from archipelago.common import string_at, xseg_reply_hash

        reply = request.get_data(xseg_reply_hash).contents
        name = string_at(reply.target, reply.targetlen).decode()
        request.put()
        block = hashlib.sha256(b"content").digest()
        root = hashlib.sha256(block + hashlib.sha256(b"").digest()).hexdigest()
        self.assertEqual(name, root)
        self.assertEqual(self.mapr(name, 8 * MIB)[0][0], block.hex())


class Blockers(PeersTest):
    def test_info_is_what_was_written(self):
        data = os.urandom(123_457)
        self.write("object-one", data, port=BLOCKERB)
        self.assertEqual(self.size_of("object-one", port=BLOCKERB), len(data))
        self.assertEqual(self.read("object-one", len(data), port=BLOCKERB), data)
        self.size_of("object-none", port=BLOCKERB, expected=False)
        self.size_of("object-none", port=BLOCKERB, expected=False)

    def test_a_short_object_is_filled_up_with_zeros(self):
        self.write("object-short", b"abc", port=BLOCKERB)
        self.assertEqual(self.read("object-short", 8, port=BLOCKERB), b"abc" + bytes(5))

    def test_nothing_written_is_an_empty_object(self):
        self.write("object-empty", b"", port=BLOCKERB)
        self.assertEqual(self.size_of("object-empty", port=BLOCKERB), 0)

    def test_a_copy_has_the_size_that_was_asked_for(self):
        data = os.urandom(5000)
        self.write("object-source", data, port=BLOCKERB)
        for more in (0, 1):
            size = len(data) + more
            request = Request.get_copy_request(
                self.ctx, BLOCKERB, "object-source", copy_target=f"object-copy{more}", size=size
            )
            self.ask(request)
            self.assertEqual(request.get_serviced(), size)
            request.put()
            self.assertEqual(self.read(f"object-copy{more}", 5000, port=BLOCKERB), data)
        request = Request.get_copy_request(
            self.ctx, BLOCKERB, "object-none", copy_target="object-copy2", size=10
        )
        self.do(request, expected=False)

    def test_a_deleted_object_is_gone(self):
        self.write("object-gone", b"abc", port=BLOCKERB)
        self.do(Request.get_delete_request(self.ctx, BLOCKERB, "object-gone"))
        self.do(Request.get_delete_request(self.ctx, BLOCKERB, "object-gone"), expected=False)
        self.read("object-gone", 3, port=BLOCKERB, expected=False)

    def test_hashing_stores_the_content_under_its_hash(self):
        self.write("object-hashed", b"content" + bytes(100), port=BLOCKERB)
        request = self.ask(
            Request.get_hash_request(self.ctx, BLOCKERB, "object-hashed", size=BLOCK)
        )
        from archipelago.common import string_at, xseg_reply_hash

        reply = request.get_data(xseg_reply_hash).contents
        name = string_at(reply.target, reply.targetlen).decode()
        request.put()
        self.assertEqual(name, hashlib.sha256(b"content").hexdigest())
        self.assertEqual(self.read(name, 7, port=BLOCKERB), b"content")

    def acquire(self, name, expected=True):
        self.do(Request.get_acquire_request(self.ctx, BLOCKERM, name), expected)

    def release(self, name, force=False, expected=True):
        self.do(Request.get_release_request(self.ctx, BLOCKERM, name, force), expected)

    def test_a_lock_is_its_owners(self):
        self.acquire("locked")
        self.acquire("locked")
        self.release("locked")
        self.release("locked", expected=False)

    def test_another_owners_lock_is_only_broken_by_force(self):
        lock = os.path.join(self.peers.dir, "locks", "foreign_lock")
        with open(lock, "x", encoding="ascii") as holder:
            holder.write("another-host_7")
        self.acquire("foreign", expected=False)
        self.release("foreign", expected=False)
        self.release("foreign", force=True)
        self.acquire("foreign")
        self.release("foreign")

    def test_a_waiting_acquire_gets_the_lock_when_it_is_free(self):
        lock = os.path.join(self.peers.dir, "locks", "awaited_lock")
        with open(lock, "x", encoding="ascii") as holder:
            holder.write("another-host_7")
        request = Request.get_acquire_request(self.ctx, BLOCKERM, "awaited", wait=True)
        request.submit()
        # Others are served meanwhile.
        self.write("object-meanwhile", b"x", port=BLOCKERM)
        self.assertTrue(request.is_under_way())
        os.unlink(lock)
        request.wait()
        self.assertTrue(request.success())
        request.put()


class Flushes(PeersTest):
    def test_a_missing_volume_is_flushed(self):
        self.do(Request(self.ctx, VLMC, "missing-volume", op=X_FLUSH))
        self.do(Request(self.ctx, VLMC, "missing-volume", op=X_WRITE, flags=XF_FLUSH))

    def test_a_flush_services_nothing(self):
        self.blank("flushed", 10 * MIB)
        self.write("flushed", b"content")
        request = self.ask(Request(self.ctx, VLMC, "flushed", op=X_FLUSH))
        self.assertEqual(request.get_serviced(), 0)
        request.put()
