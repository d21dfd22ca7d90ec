"""The native API: plain, from threads, and under asyncio."""

import array
import asyncio
import errno
import os
import threading
import unittest

import archipelago
from archipelago import Error, Extent, Node, OperationError, Volume, aio
from archipelago.volume import Ports
from support import BLOCK, BLOCKERM, MAPPER, VLMC, PeersTest

MIB = 1 << 20
PORTS = Ports(vlmcd=VLMC, mapperd=MAPPER, blockerm=BLOCKERM)


class Volumes(PeersTest):
    def setUp(self):
        self.node = Node(segment=self.segment, ports=PORTS)
        self.addCleanup(self.node.close)

    def volume(self, name, size=16 * MIB):
        self.node.create(name, size)
        return self.node.open(name)

    def test_what_is_written_is_read(self):
        data = os.urandom(9 * MIB + 77)
        with self.volume("written") as volume:
            self.assertEqual(len(volume), 16 * MIB)
            self.assertEqual(volume.write(data, 4097), len(data))
            self.assertEqual(volume.read(len(data), 4097), data)
            self.assertEqual(volume.read(0), b"")
            self.assertEqual(volume.read(4097), bytes(4097))
            volume.write(b"durable", 3, durable=True)
            self.assertEqual(volume.read(7, 3), b"durable")

    def test_buffers_of_any_kind_are_filled_in_place(self):
        data = os.urandom(3 * MIB)
        with self.volume("buffers") as volume:
            volume.write(memoryview(data)[MIB:], MIB)
            volume.write(bytearray(data[:MIB]))
            mine = bytearray(3 * MIB)
            self.assertEqual(volume.readinto(mine), 3 * MIB)
            self.assertEqual(mine, data)
            words = array.array("Q", bytes(80))
            volume.readinto(words, 8)
            self.assertEqual(words.tobytes(), data[8:88])
            volume.readinto(memoryview(mine)[100:200], 7)
            self.assertEqual(mine[100:200], data[7:107])
            self.assertEqual(mine[200:], data[200:])
            for bad in (b"read-only", memoryview(mine)[::2]):
                with self.assertRaises((ValueError, TypeError)):
                    volume.readinto(bad)
            with self.assertRaises(ValueError):
                volume.read(-1)
            with self.assertRaises(ValueError):
                volume.read(1, -1)

    def test_what_a_peer_refuses_has_an_errno(self):
        for what, number in [
            (lambda: self.node.open("no-such-volume"), errno.ENOENT),
            (lambda: self.node.create("nothing", 0), errno.EINVAL),
            (lambda: self.node.snapshot("no-such-volume", "snap-of-it"), errno.ENOENT),
        ]:
            with self.assertRaises(OperationError) as caught:
                what()
            self.assertEqual(caught.exception.errno, number)
            self.assertIsInstance(caught.exception, Error)
            self.assertIsInstance(caught.exception, OSError)
        volume = self.volume("refusals")
        with self.assertRaisesRegex(OperationError, "read of 512 bytes of 'refusals' at 16777216"):
            volume.read(512, 16 * MIB)
        # Half of it lies past the end.
        with self.assertRaises(OperationError):
            volume.write(bytes(16 * MIB), 8 * MIB)

    def test_snapshots_and_clones(self):
        with self.volume("source") as volume:
            volume.write(b"one")
            clone = volume.clone("source-snap", "source-clone")
            volume.write(b"two")
            self.assertEqual(clone.read(3), b"one")
            clone.write(b"xyz")
            self.assertEqual(self.node.open("source-snap").read(3), b"one")
            volume.snapshot("source-later")
            self.node.clone("source-later", "larger-clone", 32 * MIB)
            self.assertEqual(self.node.size("larger-clone"), 32 * MIB)
            with self.assertRaises(OperationError) as caught:
                self.node.open("source-snap").write(b"x")
            self.assertEqual(caught.exception.errno, errno.EROFS)
        names = [entry.name for entry in self.node.list()]
        self.assertLessEqual({"source", "source-snap", "source-clone", "source-later"}, set(names))
        self.node.remove("source-clone")
        listed = {entry.name: entry for entry in self.node.list(deleted=True)}
        self.assertTrue(listed["source-clone"].deleted)
        self.assertTrue(listed["source-snap"].readonly)
        self.assertEqual(listed["source"].size, 16 * MIB)
        self.assertNotIn("source-clone", [entry.name for entry in self.node.list()])

    def test_size_name_and_holder_change(self):
        volume = self.volume("changing", 8 * MIB)
        volume.resize(24 * MIB)
        self.assertEqual(volume.size, 24 * MIB)
        volume.write(b"end", 24 * MIB - 3)
        with self.assertRaises(OperationError):
            volume.resize(8 * MIB)
        volume.resize(8 * MIB, shrink=True)
        self.assertTrue(self.node.status("changing")["open_here"])
        volume.release()
        self.assertFalse(self.node.status("changing")["open_here"])
        self.node.rename("changing", "renamed")
        self.assertEqual(self.node.size("renamed"), 8 * MIB)
        self.node.acquire("renamed")
        self.node.release("renamed")

    def test_block_status_tells_holes_from_data(self):
        volume = self.volume("holes-", 5 * BLOCK)
        self.assertEqual(list(volume.block_status()), [Extent(0, 5 * BLOCK, True)])
        volume.write(b"x", BLOCK)
        volume.write(b"x", 2 * BLOCK)
        self.assertEqual(
            list(volume.block_status()),
            [
                Extent(0, BLOCK, True),
                Extent(BLOCK, 2 * BLOCK, False),
                Extent(3 * BLOCK, 2 * BLOCK, True),
            ],
        )
        self.assertEqual(
            list(volume.block_status(BLOCK + 5, 10)), [Extent(BLOCK + 5, 10, False)]
        )
        volume.write_zeroes(BLOCK, 1)
        volume.discard(2 * BLOCK, BLOCK)
        self.assertEqual(volume.read(1, BLOCK), b"\0")

    def test_block_status_goes_past_its_window(self):
        volume = self.volume("wide-holes", 3 << 30)
        volume.write(b"x", (2 << 30) - 1)
        found = list(volume.block_status())
        self.assertEqual([extent.hole for extent in found], [True, False, True])
        self.assertEqual(sum(extent.length for extent in found), 3 << 30)

    def test_threads_share_a_node(self):
        volume = self.volume("threads")
        failed = []

        def work(number):
            try:
                for turn in range(20):
                    data = bytes([number, turn]) * 3000
                    volume.write(data, number * MIB)
                    if volume.read(6000, number * MIB) != data:
                        failed.append((number, turn))
            except BaseException as why:
                failed.append(why)

        threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(failed, [])

    def test_a_closed_node_says_so(self):
        volume = self.volume("closed")
        self.node.close()
        with self.assertRaisesRegex(Error, "closed"):
            volume.read(1)

    def test_a_volume_of_its_own_node(self):
        with self.assertRaises(Error):
            Volume("unknown", config="/no/such/file")
        self.assertIs(archipelago.Volume, Volume)


class Async(PeersTest):
    def setUp(self):
        pass

    def test_many_at_once(self):
        async def main():
            async with aio.Node(segment=self.segment, ports=PORTS) as node:
                await node.create("async1", 64 * MIB)
                async with await node.open("async1") as volume:
                    blocks = [os.urandom(MIB + i) for i in range(16)]

                    async def turn(i):
                        await volume.write(blocks[i], i * 2 * MIB)
                        mine = bytearray(len(blocks[i]))
                        await volume.readinto(mine, i * 2 * MIB)
                        size = await node.size("async1")
                        return mine == blocks[i] and size == 64 * MIB

                    for _ in range(5):
                        self.assertEqual(await asyncio.gather(*map(turn, range(16))), [True] * 16)
                    self.assertEqual(await volume.read(MIB), blocks[0][:MIB])
                await node.snapshot("async1", "async1-snap")
                await node.clone("async1-snap", "async1-clone")
                await node.rename("async1-clone", "async1-other")
                await node.resize("async1-other", 128 * MIB)
                other = await node.open("async1-other")
                status = await other.block_status()
                self.assertEqual(sum(extent.length for extent in status), 128 * MIB)
                self.assertIn("async1", [entry.name for entry in await node.list()])
                await node.release("async1")
                self.assertFalse((await node.status("async1"))["open_here"])
                await node.remove("async1-other")

        asyncio.run(main())

    def test_the_loop_goes_on_while_an_answer_is_awaited(self):
        """A write waits for a lock that another host holds; the loop gives that lock back."""
        lock = os.path.join(self.peers.dir, "locks", "async2_lock")

        async def main():
            async with aio.Node(segment=self.segment, ports=PORTS) as node:
                await node.create("async2", MIB)
                volume = await node.open("async2")
                with open(lock, "x", encoding="ascii") as holder:
                    holder.write("another-host_7")
                write = asyncio.ensure_future(volume.write(b"late"))
                for _ in range(50):
                    self.assertEqual(await node.size("async2"), MIB)
                self.assertFalse(write.done())
                os.unlink(lock)
                self.assertEqual(await write, 4)
                self.assertEqual(await volume.read(4), b"late")

        asyncio.run(main())

    def test_an_operation_can_be_given_up(self):
        lock = os.path.join(self.peers.dir, "locks", "async3_lock")

        async def main():
            async with aio.Node(segment=self.segment, ports=PORTS) as node:
                await node.create("async3", MIB)
                volume = await node.open("async3")
                with open(lock, "x", encoding="ascii") as holder:
                    holder.write("another-host_7")
                write = asyncio.ensure_future(volume.write(bytes(MIB)))
                await node.size("async3")
                write.cancel()
                with self.assertRaises(asyncio.CancelledError):
                    await write
                os.unlink(lock)
                await volume.write(b"after")
                self.assertEqual(await volume.read(5), b"after")

        asyncio.run(main())

    def test_a_refusal_is_raised_where_it_is_awaited(self):
        async def main():
            async with aio.Node(segment=self.segment, ports=PORTS) as node:
                with self.assertRaises(OperationError) as caught:
                    await node.open("no-such-volume")
                self.assertEqual(caught.exception.errno, errno.ENOENT)
            with self.assertRaises(Error):
                await node.size("any-volume")

        asyncio.run(main())


if __name__ == "__main__":
    unittest.main()
