"""Several Pithos workers under load on one node, one of them killed and replaced again and again.

Every object that a worker said was stored is there afterwards, old objects read the same from all
of them at once, and a replacement binds the ports of the dead one.
"""

import hashlib
import json
import os
import queue
import random
import signal
import subprocess
import sys
import threading
import unittest

from archipelago import common
from pithos_store import BLOCK, Pool, Store, static_ports, store_the_old_way
from support import Peers

SPEC = ("posix", "pithos", 64, 128, 256, 12)
BLOCKERB, BLOCKERM, MAPPER, VLMC = 40, 41, 42, 43
WORKERS = 3
DEATHS = 6
POOL_SIZE = 4


class Worker:
    """A worker's process, and a thread that hears what it says."""

    def __init__(self, number, seed, old):
        at = {"segment": SPEC, "blockerb": BLOCKERB, "mapperd": MAPPER}
        script = os.path.join(os.path.dirname(os.path.abspath(__file__)), "pithos_worker.py")
        arguments = [common.RUN_DIR, json.dumps(at), str(number), str(seed), json.dumps(old)]
        self.number = number
        self.process = subprocess.Popen(
            [sys.executable, script] + arguments, stdout=subprocess.PIPE
        )
        self.ports, self.stored, self.done = [], [], False
        self.said = queue.Queue()
        self.ear = threading.Thread(target=self.hear)
        self.ear.start()

    def hear(self):
        for line in self.process.stdout:
            # A killed one may end in the middle of a line.
            if line.endswith(b"\n"):
                self.take(json.loads(line))
        self.said.put(None)

    def take(self, said):
        self.ports = said.get("ports", self.ports)
        if "stored" in said:
            self.stored.append(said["stored"])
        self.done |= said.get("done", False)
        self.said.put(said)

    def await_words(self, count):
        """Waits until it said so much more; False: it ended before."""
        return all(self.said.get(timeout=120) is not None for _ in range(count))

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.end()

    def end(self):
        self.process.wait()
        self.ear.join()
        self.process.stdout.close()


class Pithos(unittest.TestCase):
    def setUp(self):
        self.peers = Peers(SPEC, (BLOCKERB, BLOCKERM, MAPPER, VLMC))
        self.addCleanup(self.peers.stop)
        self.seed = int(os.environ.get("ARCHIPELAGO_SEED") or random.randrange(1 << 32))
        print(f"ARCHIPELAGO_SEED={self.seed}")
        self.random = random.Random(self.seed)
        self.old = [self.old_object(size) for size in (1, BLOCK, BLOCK + 1, 3 * BLOCK - 5)]
        self.peers.start()
        self.workers = []
        self.addCleanup(self.kill_all)

    def old_object(self, size):
        content = self.random.randbytes(size)
        name = store_the_old_way(self.peers.dir, content)
        return [name, size, hashlib.sha256(content).hexdigest()]

    def kill_all(self):
        for worker in self.workers:
            worker.kill()

    def start(self, number):
        worker = Worker(number, self.random.randrange(1 << 32), self.old)
        self.workers.append(worker)
        self.assertTrue(worker.await_words(1), f"worker {number} did not start")
        self.assertEqual(worker.ports, list(static_ports(number, POOL_SIZE)))
        return worker

    def test_workers_are_killed_and_replaced_under_load(self):
        lasting = [self.start(number) for number in range(1, WORKERS)]
        stored = []
        for _ in range(DEATHS):
            victim = self.start(WORKERS)
            # In the middle of its work, not at its end.
            self.assertTrue(victim.await_words(self.random.randrange(1, 12)))
            victim.kill()
            self.workers.remove(victim)
            self.assertFalse(victim.done)
            stored += victim.stored
        for worker in lasting + [self.start(WORKERS)]:
            worker.end()
            self.workers.remove(worker)
            self.assertEqual((worker.process.returncode, worker.done), (0, True))
            self.assertEqual(len(worker.stored), 48)
            stored += worker.stored
        self.check(stored)

    def check(self, stored):
        """Whoever comes later (no worker id: dynamic ports) reads everything."""
        pool = Pool(self.peers.segment, [None], queue.Queue())
        self.addCleanup(pool.shutdown)
        store = Store(pool, BLOCKERB, MAPPER)
        for name, size, digest in stored + self.old:
            data = store.read(name, size)
            self.assertEqual((len(data), hashlib.sha256(data).hexdigest()), (size, digest), name)
        self.assertGreater(len(stored), 3 * 48)
        name, size, _ = stored[0]
        with self.assertRaisesRegex(IOError, "Could not write map"):
            store.store(name, bytes(size))
        with self.assertRaisesRegex(IOError, "Bad block file"):
            store.read_block(hashlib.sha256(b"no such block").hexdigest())


class OldMaps(unittest.TestCase):
    """v0 maps: what is not one is refused, and nothing of it is changed."""

    def setUp(self):
        self.peers = Peers(SPEC, (BLOCKERB, BLOCKERM, MAPPER, VLMC))
        self.addCleanup(self.peers.stop)
        self.peers.start()
        pool = Pool(self.peers.segment, [None], queue.Queue())
        self.addCleanup(pool.shutdown)
        self.store = Store(pool, BLOCKERB, MAPPER)

    def path(self, kind, name):
        return os.path.join(self.peers.dir, kind, name[0:2], name[2:4], name[4:6], name)

    def test_a_size_that_does_not_fit_is_refused(self):
        name = store_the_old_way(self.peers.dir, bytes(range(256)) * (2 * BLOCK // 256))
        with open(self.path("maps", name), "rb") as opened:
            before = opened.read()
        for size in (BLOCK, 2 * BLOCK + 1, 1 << 40):
            with self.assertRaises(IOError):
                self.store.read_map(name, size)
        with open(self.path("maps", name), "rb") as opened:
            self.assertEqual(opened.read(), before)
        self.assertEqual(len(self.store.read_map(name, 2 * BLOCK)), 2)

    def test_a_missing_block_is_an_error_that_names_it(self):
        content = b"x" * (BLOCK + 1)
        name = store_the_old_way(self.peers.dir, content)
        last = hashlib.sha256(b"x").hexdigest()
        os.unlink(self.path("blocks", last))
        with self.assertRaisesRegex(IOError, last):
            self.store.read(name, len(content))

    def test_an_upgraded_map_is_read_without_its_size(self):
        content = b"y" * (BLOCK + 100)
        name = store_the_old_way(self.peers.dir, content)
        self.assertEqual(self.store.read(name, len(content)), content)
        with open(self.path("maps", name), "rb") as opened:
            self.assertEqual(opened.read(4), b"AMF.")
        self.assertEqual(self.store.read(name, len(content)), content)


if __name__ == "__main__":
    unittest.main()
