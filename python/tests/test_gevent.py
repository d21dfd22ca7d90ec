"""Waiting under real gevent, with everything monkey-patched: a greenlet sleeps, not the process."""

from gevent import monkey

monkey.patch_all()

import os
import threading
import unittest
from ctypes import POINTER, cast

import gevent
from archipelago import Node, common
from archipelago.common import Request, Xseg_ctx, posixfd_signal_desc, string_at
from archipelago.volume import Ports
from gevent.event import Event
from gevent.queue import Queue
from gevent.select import select
from support import BLOCKERB, BLOCKERM, MAPPER, VLMC, PeersTest

MIB = 1 << 20


def pithos_wait(ctx, sd, timeout):
    """What Pithos puts in the place of `xseg_wait_signal_green`."""
    fd = cast(sd, POINTER(posixfd_signal_desc)).contents.fd
    select([fd], [], [], timeout / 1000000.0)
    while True:
        try:
            os.read(fd, 512)
        except OSError as why:
            if why.errno == 11:
                break
            raise


class Green(PeersTest):
    def hold(self, name):
        """The lock of a volume, held by another host."""
        path = os.path.join(self.peers.dir, "locks", name + "_lock")
        with open(path, "x", encoding="ascii") as holder:
            holder.write("another-host_7")
        return path

    def check_that_others_run(self, name):
        """One greenlet waits for a lock, another takes it away, and only then the first goes on."""
        self.blank(name, MIB)
        lock = self.hold(name)
        order = []
        waits = Event()

        def waiter():
            with Xseg_ctx(self.segment) as ctx:
                request = Request.get_mapw_request(ctx, MAPPER, name, size=512)
                request.submit()
                waits.set()
                request.wait()
                order.append("served")
                self.assertTrue(request.success())
                request.put()

        def other():
            waits.wait()
            for _ in range(20):
                self.size_of(name)
            order.append("other")
            os.unlink(lock)

        greenlets = [gevent.spawn(waiter), gevent.spawn(other)]
        gevent.joinall(greenlets, timeout=60, raise_error=True)
        self.assertEqual(order, ["other", "served"])

    def test_others_run_with_patched_select(self):
        self.check_that_others_run("green1")

    def test_others_run_with_pithos_own_wait(self):
        before = common.xseg_wait_signal_green
        common.xseg_wait_signal_green = pithos_wait
        try:
            self.check_that_others_run("green2")
        finally:
            common.xseg_wait_signal_green = before

    def test_a_pool_of_contexts_serves_many_greenlets(self):
        """As Pithos does: eight contexts, taken and given back around each request."""
        pool = Queue()
        contexts = [Xseg_ctx(self.segment, 4 + i) for i in range(4)]
        contexts += [Xseg_ctx(self.segment) for _ in range(4)]
        for ctx in contexts:
            pool.put(ctx)
            self.addCleanup(ctx.shutdown)

        def work(number):
            name, data = f"object{number}", os.urandom(50_000 + number)
            for request in (
                lambda ctx: Request.get_write_request(ctx, BLOCKERB, name, data=data),
                lambda ctx: Request.get_read_request(ctx, BLOCKERB, name, size=len(data)),
            ):
                ctx = pool.get()
                try:
                    with request(ctx) as sent:
                        sent.submit()
                        sent.wait()
                        self.assertTrue(sent.success())
                        read = string_at(sent.get_data(), sent.get_serviced())
                finally:
                    pool.put(ctx)
            self.assertEqual(read, data)

        greenlets = [gevent.spawn(work, number) for number in range(64)]
        gevent.joinall(greenlets, timeout=60, raise_error=True)
        self.assertTrue(all(greenlet.successful() for greenlet in greenlets))

    def test_the_native_api(self):
        ports = Ports(vlmcd=VLMC, mapperd=MAPPER, blockerm=BLOCKERM)
        with Node(segment=self.segment, ports=ports) as node:
            node.create("native", 8 * MIB)
            volume = node.open("native")
            data = os.urandom(5 * MIB)
            lock = self.hold("native")
            write = gevent.spawn(volume.write, data)
            # The node is its user's alone until the write has ended: another one looks.
            with Node(segment=self.segment, ports=ports) as other:
                for _ in range(10):
                    self.assertEqual(other.size("native"), 8 * MIB)
                self.assertFalse(write.ready())
                os.unlink(lock)
            write.join(60)
            self.assertEqual(write.get(), len(data))
            self.assertEqual(volume.read(len(data)), data)
            volume.close()

    def test_threads_are_greenlets(self):
        self.blank("threads", MIB)
        sizes = []

        def work():
            with Xseg_ctx(self.segment) as ctx:
                with Request.get_info_request(ctx, MAPPER, "threads") as request:
                    request.submit()
                    request.wait()
                    sizes.append(request.success())

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        self.assertEqual(sizes, [True] * 4)


if __name__ == "__main__":
    unittest.main()
