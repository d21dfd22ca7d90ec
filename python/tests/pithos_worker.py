"""A Pithos worker: everything monkey-patched, static ports by its number, many greenlets.

    pithos_worker.py RUN_DIR SPEC WORKER SEED OBJECTS

`SPEC` and `OBJECTS` are JSON. It reads old objects (name, size, sha256) and stores new ones, reads
them back, and prints a line of JSON for each that is stored. It ends after its turns, or when it
is killed.
"""

from gevent import monkey

monkey.patch_all()

import hashlib
import json
import os
import random
import sys
from ctypes import POINTER, cast

import gevent
from archipelago import common
from archipelago.common import Segment, posixfd_signal_desc
from gevent.queue import Queue
from gevent.select import select
from pithos_store import BLOCK, Pool, Store, static_ports

POOL_SIZE = 4
GREENLETS = 8
TURNS = 6


def wait_green(ctx, sd, timeout):
    """What Pithos installs."""
    fd = cast(sd, POINTER(posixfd_signal_desc)).contents.fd
    select([fd], [], [], timeout / 1000000.0)
    while True:
        try:
            os.read(fd, 512)
        except OSError as why:
            if why.errno == 11:
                break
            raise


def content(numbers):
    """Two blocks or so: with zeros at the end, wholly zero, and of any length."""
    size = numbers.randrange(1, 2 * BLOCK)
    # A few kinds of blocks, so that workers meet each other's.
    seed = numbers.randrange(40)
    data = random.Random(seed).randbytes(1000) * (size // 1000 + 1)
    if seed % 8 == 0:
        data = bytes(BLOCK) + data
    return data[:size]


def main():
    run_dir, spec, worker, seed, old = sys.argv[1:]
    worker, numbers = int(worker), random.Random(int(seed))
    common.set_run_dir(run_dir)
    common.xseg_wait_signal_green = wait_green
    at = json.loads(spec)
    pool = Pool(Segment(*at["segment"]), static_ports(worker, POOL_SIZE), Queue())
    store = Store(pool, at["blockerb"], at["mapperd"])
    print(json.dumps({"ports": [ctx.portno for ctx in pool.contexts]}), flush=True)
    old = json.loads(old)

    def check(name, size, digest):
        data = store.read(name, size)
        if len(data) != size or hashlib.sha256(data).hexdigest() != digest:
            raise AssertionError(f"{name} has other bytes")

    def work(greenlet):
        for turn in range(TURNS):
            check(*numbers.choice(old))
            data = content(numbers)
            name = f"snf_file_{worker}_{os.getpid()}_{greenlet}_{turn}"
            store.store(name, data)
            stored = [name, len(data), hashlib.sha256(data).hexdigest()]
            print(json.dumps({"stored": stored}), flush=True)
            check(*stored)

    greenlets = [gevent.spawn(work, number) for number in range(GREENLETS)]
    gevent.joinall(greenlets, raise_error=True)
    pool.shutdown()
    print(json.dumps({"done": True}), flush=True)


main()
