"""A client of a cluster that is no part of a node: it looks at what lies in pools, and changes it.

One line of JSON asks, one answers: {"answer": ...}, or {"error": errno, "said": text}. Bytes are
hexadecimal. What it knows of locks is read from the class `lock` of Ceph, not from our driver.
"""
import hashlib
import json
import os
import struct
import sys

import rados

LOCK, COOKIE = "RadosLock", "foo"


def structure(body):
    return struct.pack("<BBI", 1, 1, len(body)) + body


def text(value):
    return struct.pack("<I", len(value)) + value.encode()


def locker(io, key):
    """The client that holds the lock of `key`: 4123 of client.4123, or None."""
    _, out = io.execute(key, "lock", "get_info", structure(text(LOCK)), 65536)
    (lockers,) = struct.unpack_from("<I", out, 6)
    # Behind the count: the header of a locker's id, the kind of client, its number.
    return struct.unpack_from("<Q", out, 6 + 4 + 6 + 1)[0] if lockers else None


def is_lock(key):
    return key.endswith("_lock")


def whole(io, key):
    size, _ = io.stat(key)
    return io.read(key, size, 0) if size else b""


def place(tree, part, key):
    h = hashlib.sha256(key.encode()).hexdigest()
    return os.path.join(tree, part, h[0:2], h[2:4], h[4:6], key)


class Outsider:
    def __init__(self, conf, user):
        self.cluster = rados.Rados(conffile=conf, rados_id=user)
        self.cluster.connect()
        self.pools = {}

    def io(self, pool):
        if pool not in self.pools:
            self.pools[pool] = self.cluster.open_ioctx(pool)
        return self.pools[pool]

    def keys(self, pool):
        return sorted(o.key for o in self.io(pool).list_objects())

    def me(self):
        return "client.%d" % self.cluster.get_instance_id()

    def addresses(self):
        return self.cluster.get_addrs()

    def forget(self, pool):
        """The pool was deleted: another of its name is another one, as the newest map says."""
        self.pools.pop(pool, None)
        self.cluster.wait_for_latest_osdmap()

    def empty(self, pool):
        for key in self.keys(pool):
            self.io(pool).remove_object(key)

    def facts(self, pool):
        """Of each object its size and the hash of what stands before the zeros at its end; of a
        lock who holds it."""
        found = {}
        for key in self.keys(pool):
            data = whole(self.io(pool), key)
            fact = {"len": len(data), "sha256": hashlib.sha256(data.rstrip(b"\0")).hexdigest()}
            if is_lock(key) and not data:
                fact["locker"] = locker(self.io(pool), key)
            found[key] = fact
        return found

    def get(self, pool, name):
        try:
            return whole(self.io(pool), name).hex()
        except rados.ObjectNotFound:
            return None

    def put(self, pool, name, data):
        self.io(pool).write_full(name, bytes.fromhex(data))

    def remove(self, pool, name):
        self.io(pool).remove_object(name)

    def fill(self, pool, tree, part):
        """The pool holds the files below `part`, each under its own name, and nothing else."""
        self.empty(pool)
        for folder, _, names in os.walk(os.path.join(tree, part)):
            for name in names:
                if name != ".archipelago":
                    with open(os.path.join(folder, name), "rb") as file:
                        self.io(pool).write_full(name, file.read())

    def take(self, pool, tree, part):
        """Makes files of the objects, where their names' hashes say; locks are left out."""
        os.makedirs(os.path.join(tree, part), exist_ok=True)
        for key in self.keys(pool):
            data = whole(self.io(pool), key)
            if is_lock(key) and part == "maps":
                if data:
                    raise ValueError("%s holds %d bytes" % (key, len(data)))
                continue
            path = place(tree, part, key)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "wb") as file:
                file.write(data)

    def holder(self, pool, volume):
        try:
            return locker(self.io(pool), volume + "_lock")
        except rados.ObjectNotFound:
            return None

    def lock(self, pool, volume, description):
        """As the original does, which says nothing in it."""
        self.io(pool).lock_exclusive(volume + "_lock", LOCK, COOKIE, desc=description, flags=1)

    def unlock(self, pool, volume):
        self.io(pool).unlock(volume + "_lock", LOCK, COOKIE)

    def break_lock(self, pool, volume):
        """As the original and the tool `rados` do: nobody is kept from writing."""
        key = volume + "_lock"
        owner = struct.pack("<BQ", 8, locker(self.io(pool), key))
        self.io(pool).execute(key, "lock", "break_lock", structure(text(LOCK) + owner + text(COOKIE)))


def serve(conf, user):
    outsider = Outsider(conf, user)
    for line in sys.stdin:
        order = json.loads(line)
        act = getattr(outsider, order.pop("do"))
        try:
            said = {"answer": act(**order)}
        except Exception as why:
            said = {"error": getattr(why, "errno", None) or 5, "said": repr(why)}
        print(json.dumps(said), flush=True)
    # Without a farewell to a cluster that may be ending at this very moment.
    os._exit(0)


serve(sys.argv[1], sys.argv[2])
