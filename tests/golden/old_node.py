#!/usr/bin/python3
"""A node of the previous version, as far as it shows on a shared directory.

Written from the descriptions of the formats, of the lock protocol and of the order of writes
alone; maps are read by decode.py. It takes locks, reads and writes volumes and upgrades old maps as
the original was seen to do, so that a node of ours can be tried beside one that was not upgraded.

    old_node.py MAPS BLOCKS LOCKS OWNER [--direct]

LOCKS is the lock_dir, OWNER the owner string. One command per line of standard input, a JSON list
of the command and its arguments; one JSON document per line of standard output: the answer, or
{"failed": WHY}. With --direct every file is padded to 512 bytes, as O_DIRECT made it.
"""

import argparse
import contextlib
import hashlib
import json
import os
import sys

import decode
from decode import ARCHIP, BLOCK, SECTOR, WRITABLE, ZERO, ZERO_NAME

SIGNATURE = b"AMF."
READONLY_MAP, DELETED_MAP = decode.READONLY_MAP, decode.DELETED_MAP


class Failed(Exception):
    """What the original answered with `failed`."""


class Store:
    """The objects under one archip_dir, each looked for when it is asked for."""

    def __init__(self, root, direct):
        self.root, self.direct = os.fsencode(root), direct

    def find(self, name):
        for layout, path in decode.Tree.places(name):
            # The original could not find what lies where 0.3 kept it.
            if layout != "archip" and os.path.exists(os.path.join(self.root, path)):
                return layout, os.path.join(self.root, path)
        return None

    def has(self, name):
        return self.find(name) is not None

    def size(self, name):
        return os.stat(self.find(name)[1]).st_size

    def read(self, name, size=-1):
        found = self.find(name)
        if found is None:
            raise decode.Bad("object %s is missing" % decode.show(name))
        with open(found[1], "rb") as f:
            return f.read(size)

    def write(self, name, offset, data):
        found = self.find(name)
        path = found[1] if found else os.path.join(self.root, decode.Tree.places(name)[0][1])
        os.makedirs(os.path.dirname(path), 0o770, exist_ok=True)
        fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o660)
        try:
            os.pwrite(fd, data, offset)
            if self.direct:
                size = os.fstat(fd).st_size
                os.ftruncate(fd, decode.round_up(size, SECTOR))
            os.fsync(fd)
        finally:
            os.close(fd)

    def delete(self, name):
        if not self.has(name):
            raise Failed("there is no object %s" % decode.show(name))
        os.unlink(self.find(name)[1])


class Locks:
    """NAME_lock files: linked when taken, unlinked when released."""

    def __init__(self, folder, owner, direct):
        self.folder, self.owner, self.direct = os.fsencode(folder), os.fsencode(owner), direct

    def path(self, name):
        return os.path.join(self.folder, name + b"_lock")

    def acquire(self, name):
        """Takes the lock; one with our owner string is ours already."""
        temporary = self.path(name) + self.owner + b"_aa"
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o660)
        try:
            text = self.owner.ljust(SECTOR, b"\0") if self.direct else self.owner
            os.write(fd, text)
            os.fsync(fd)
            os.link(temporary, self.path(name))
        except FileExistsError:
            if not self.is_ours(name):
                holder = self.holder(name) or b"who has just released it"
                raise Failed("locked by %s" % decode.show(holder)) from None
        finally:
            os.close(fd)
            os.unlink(temporary)

    def release(self, name):
        if not self.is_ours(name):
            raise Failed("not locked by us")
        os.unlink(self.path(name))

    def holder(self, name):
        with contextlib.suppress(FileNotFoundError):
            with open(self.path(name), "rb") as f:
                return f.read(SECTOR).rstrip(b"\0")
        return None

    def is_ours(self, name):
        holder = self.holder(name)
        return holder is not None and holder.startswith(self.owner)


class OldNode:
    """What mapperd, vlmcd and the blockers did together."""

    def __init__(self, args):
        self.maps = Store(args.maps, args.direct)
        self.blocks = Store(args.blocks, args.direct)
        self.locks = Locks(args.locks, args.owner, args.direct)

    def load(self, name, v0_size=None):
        assume_v0 = v0_size is not None
        volume = decode.open_volume(self.maps, name, assume_v0, v0_size)
        if volume.deleted:
            raise Failed("there is no volume %s" % decode.show(name))
        return volume

    def write_header(self, name, size, flags, epoch):
        fields = decode.struct.pack(">4sIQIIQ", SIGNATURE, 2, size, BLOCK, flags, epoch)
        self.maps.write(name, 0, fields)

    def write_entries(self, name, entries):
        per_chunk = BLOCK // 128
        for first in range(0, len(entries), per_chunk):
            packed = b"".join(map(pack_entry, entries[first : first + per_chunk]))
            self.maps.write(name + b"_%016x" % (first // per_chunk), 0, packed)

    def write_map(self, name, entries, size, flags, epoch):
        self.write_entries(name, entries)
        self.write_header(name, size, flags, epoch)

    def predecessor(self, name):
        """The epoch of a deleted volume of that name; a living one is a failure."""
        if not self.maps.has(name):
            return 0
        old = decode.Map(self.maps, name)
        if not old.deleted:
            raise Failed("volume %s exists" % decode.show(name))
        return old.epoch

    @contextlib.contextmanager
    def locked(self, name):
        self.locks.acquire(name)
        try:
            yield
        finally:
            self.locks.release(name)

    def open(self, name, v0_size=None):
        """The lock; then an old map becomes a v2 one in place, and an archip_ name goes."""
        self.locks.acquire(name)
        volume = self.load(name, v0_size)
        if volume.version == 0:
            self.write_map(volume.header_object, list(volume.entries()), volume.size, READONLY_MAP, 0)
        elif volume.header_object != name:
            self.write_map(name, list(volume.entries()), volume.size, volume.flags, 1)
            self.maps.delete(volume.header_object)

    def close(self, name):
        self.locks.release(name)

    def info(self, name):
        return self.load(name).size

    def read(self, name, offset, size, v0_size=None):
        volume = self.load(name, v0_size)
        if offset + size > volume.size:
            raise Failed("beyond the end")
        parts, at = [], 0
        for entry in volume.entries():
            begin, end = max(offset, at), min(offset + size, at + BLOCK)
            if begin < end:
                parts.append(decode.block_content(entry, self.blocks, BLOCK)[begin - at : end - at])
            at += BLOCK
        return b"".join(parts).hex()

    def write(self, name, offset, digits):
        """One write, in hex, within a block: copied up first where the entry is not writable."""
        if not self.locks.is_ours(name):
            raise Failed("not open")
        volume, data = self.load(name), bytes.fromhex(os.fsdecode(digits))
        index, inside = divmod(offset, BLOCK)
        if volume.readonly or inside + len(data) > BLOCK or offset + len(data) > volume.size:
            raise Failed("cannot be written")
        entry = list(volume.entries())[index]
        if not entry.flags & WRITABLE:
            entry = self.copy_up(volume, index, entry)
        self.blocks.write(entry.name, inside, data)

    def copy_up(self, volume, index, entry):
        own = b"%s_%016x_%016x" % (volume.header_object, volume.epoch, index)
        if not entry.flags & ZERO:
            self.blocks.write(own, 0, self.blocks.read(entry.name, BLOCK))
        new = decode.Entry(WRITABLE | ARCHIP, own)
        chunk, within = divmod(index, BLOCK // 128)
        self.maps.write(volume.chunk_name(chunk), 128 * within, pack_entry(new))
        return new

    def create(self, name, size):
        with self.locked(name):
            epoch = self.predecessor(name) + 1
            entries = [decode.Entry(ZERO, ZERO_NAME)] * -(-size // BLOCK)
            self.write_map(name, entries, size, 0, epoch)

    def snapshot(self, name, snapshot):
        if not self.locks.is_ours(name):
            raise Failed("not open")
        volume = self.load(name)
        with self.locked(snapshot):
            self.predecessor(snapshot)
            entries = [frozen(entry) for entry in volume.entries()]
            self.write_map(name, entries, volume.size, volume.flags, volume.epoch + 1)
            self.write_map(snapshot, entries, volume.size, READONLY_MAP, 0)

    def clone(self, snapshot, name, size):
        parent = self.load(snapshot)
        if size < parent.size:
            raise Failed("smaller than its parent")
        with self.locked(name):
            epoch = self.predecessor(name) + 1
            entries = [frozen(entry) for entry in parent.entries()]
            entries += [decode.Entry(ZERO, ZERO_NAME)] * (-(-size // BLOCK) - len(entries))
            self.write_map(name, entries, size, 0, epoch)

    def delete(self, name):
        with self.locked(name):
            volume = self.load(name)
            entries = list(volume.entries())
            for index, entry in enumerate(entries):
                if entry.flags & 15 == WRITABLE | ARCHIP:
                    with contextlib.suppress(Failed):
                        self.blocks.delete(entry.name)
                    entries[index] = decode.Entry(15, entry.name)
            flags = volume.flags | DELETED_MAP
            self.write_map(name, entries, volume.size, flags, volume.epoch)

    def hash(self, name):
        return decode.content_hash(self.load(name), self.blocks)

    def block(self, name):
        """A block of Pithos by its name: sha256 of what lies there."""
        return hashlib.sha256(self.blocks.read(name)).hexdigest()


COMMANDS = (
    "open", "close", "info", "read", "write", "create", "snapshot", "clone", "delete", "hash", "block"
)


def frozen(entry):
    return decode.Entry(entry.flags & ~WRITABLE, entry.name)


def pack_entry(entry):
    return decode.struct.pack("<BI123s", entry.flags, len(entry.name), entry.name)


def encoded(argument):
    """Names are bytes here, numbers and data stay."""
    return os.fsencode(argument) if isinstance(argument, str) else argument


def answer(node, line):
    command, *arguments = json.loads(line)
    if command not in COMMANDS:
        raise Failed("no command: %s" % command)
    return getattr(node, command)(*map(encoded, arguments))


def main():
    parser = argparse.ArgumentParser(description="A node of the previous version.")
    for name in ("maps", "blocks", "locks", "owner"):
        parser.add_argument(name)
    parser.add_argument("--direct", action="store_true", help="pad every file to 512 bytes")
    os.umask(0o007)
    node = OldNode(parser.parse_args())
    for line in sys.stdin:
        try:
            said = answer(node, line)
        except (Failed, decode.Bad, OSError) as why:
            said = {"failed": str(why)}
        print(json.dumps(said), flush=True)


if __name__ == "__main__":
    main()
