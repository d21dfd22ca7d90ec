#!/usr/bin/python3
"""An independent decoder of Archipelago's maps (v0, v1, v2) on plain directories.

Written from the description of the formats alone, and sharing no code with the Rust crates, so
that it can tell whether what they wrote is what was meant. It only reads.

    decode.py MAPS BLOCKS                     list the volumes
    decode.py MAPS BLOCKS --check             and verify the structure of everything
    decode.py MAPS BLOCKS --hash VOL          print sha256 of the volume's full content
              [--assume-v0 [--v0-size BYTES]]
    decode.py MAPS BLOCKS --entries VOL       print one line per block

MAPS and BLOCKS are the archip_dir of blockerm and blockerb; they may be the same directory.
--json prints one JSON document instead. Exit status: 0 all well, 1 a problem was found or the
volume cannot be read, 2 wrong usage.
"""

import argparse
import collections
import hashlib
import json
import os
import re
import struct
import sys

BLOCK = 4 << 20
SECTOR = 512
ZERO_NAME = b"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
WRITABLE, ARCHIP, ZERO, DELETED = 1, 2, 4, 8
READONLY_MAP, DELETED_MAP = 1, 2
HASH = re.compile(rb"[0-9a-f]{64}\Z")
OWN = re.compile(rb"(.+)_([0-9a-f]{16})_([0-9a-f]{16})\Z", re.S)
CHUNK = re.compile(rb"(.+)_([0-9a-f]{16})\Z", re.S)

Entry = collections.namedtuple("Entry", "flags name")


class Bad(Exception):
    """Something that cannot be decoded."""


def show(name):
    return name.decode("utf-8", "backslashreplace")


def round_up(n, unit):
    return -(-n // unit) * unit


class Tree:
    """The objects under one archip_dir, by name."""

    def __init__(self, root):
        self.root = os.fsencode(root)
        self.paths = collections.defaultdict(list)
        for folder, _, files in os.walk(self.root):
            for name in files:
                where = os.path.relpath(os.path.join(folder, name), self.root)
                self.paths[name].append(where)

    @staticmethod
    def places(name):
        """Where an object may be, in the order in which it is looked for."""
        h = hashlib.sha256(name).hexdigest().encode()
        found = [("hashed", b"/".join((h[0:2], h[2:4], h[4:6], name)))]
        if HASH.match(name):
            found.append(("pithos", b"/".join((name[0:2], name[2:4], name[4:6], name))))
        if name.startswith(b"archip_") and len(name) >= 13:
            found.append(("archip", b"/".join((name[7:9], name[9:11], name[11:13], name))))
        return found

    def find(self, name):
        for layout, path in self.places(name):
            if path in self.paths.get(name, ()):
                return layout, os.path.join(self.root, path)
        return None

    def has(self, name):
        return self.find(name) is not None

    def size(self, name):
        return os.stat(self.find(name)[1]).st_size

    def read(self, name, size=-1):
        found = self.find(name)
        if found is None:
            raise Bad("object %s is missing" % show(name))
        with open(found[1], "rb") as f:
            return f.read(size)


class Map:
    """One map: header fields and entries, whatever the version."""

    def __init__(self, maps, header_object, assume_v0=False, v0_size=None):
        self.maps, self.header_object = maps, header_object
        self.name = header_object[7:] if header_object.startswith(b"archip_") else header_object
        self.flags, self.epoch, self.block_size = 0, 0, BLOCK
        self.raw = maps.read(header_object, SECTOR)
        self.file_size = maps.size(header_object)
        if self.raw[:4] == b"AMF.":
            self.read_v2_header()
        elif self.is_v1(exactly=True) or (self.is_v1(exactly=False) and not assume_v0):
            self.version, self.size = 1, struct.unpack("<Q", self.raw[4:12])[0]
        elif assume_v0:
            self.version, self.flags = 0, READONLY_MAP
            self.count_v0(v0_size)
        else:
            raise Bad("not a map, unless it is a v0 one (--assume-v0)")
        self.count = -(-self.size // self.block_size)

    def is_v1(self, exactly):
        if len(self.raw) < 12 or self.raw[:4] != b"\1\0\0\0":
            return False
        size = struct.unpack("<Q", self.raw[4:12])[0]
        need = 12 + 33 * -(-size // BLOCK)
        return self.file_size in (need, round_up(need, SECTOR)) if exactly else self.file_size >= need

    def read_v2_header(self):
        if len(self.raw) < 32:
            raise Bad("header of %d bytes" % len(self.raw))
        fields = struct.unpack(">4sIQIIQ", self.raw[:32])
        _, self.version, self.size, self.block_size, self.flags, self.epoch = fields
        if self.version != 2:
            raise Bad("header of version %d" % self.version)
        if self.block_size <= 128 or self.block_size & (self.block_size - 1):
            raise Bad("block size %d" % self.block_size)
        if self.flags & ~3:
            raise Bad("map flags %#x" % self.flags)

    def count_v0(self, v0_size):
        """Everything is data, but for zeros that fill up the last sector."""
        data = self.maps.read(self.header_object)
        if len(data) % 32:
            raise Bad("v0 map of %d bytes" % len(data))
        entries = len(data) // 32
        if len(data) % SECTOR == 0:
            while entries and len(data) // 32 - entries < 15 and not any(data[32 * entries - 32 : 32 * entries]):
                entries -= 1
        if not entries:
            raise Bad("v0 map without entries")
        self.size = entries * BLOCK if v0_size is None else v0_size
        if -(-self.size // BLOCK) != entries:
            raise Bad("v0 map of %d entries cannot have size %d" % (entries, self.size))

    @property
    def deleted(self):
        return bool(self.flags & DELETED_MAP)

    @property
    def readonly(self):
        return bool(self.flags & READONLY_MAP)

    def chunk_name(self, number):
        return self.header_object + b"_%016x" % number

    @property
    def per_chunk(self):
        return self.block_size // 128

    def entries(self):
        """Yields every entry in the order of the blocks."""
        if self.version == 2:
            yield from self.entries_v2()
            return
        data = self.maps.read(self.header_object)
        at, step = (0, 32) if self.version == 0 else (12, 33)
        if len(data) < at + step * self.count:
            raise Bad("map of %d bytes is cut off" % len(data))
        for index in range(self.count):
            stored = data[at + step * index : at + step * (index + 1)]
            yield self.entry_old(index, stored)

    def entry_old(self, index, stored):
        flag, raw = (0, stored) if self.version == 0 else (stored[0], stored[1:])
        if not any(raw):
            raise Bad("entry %d is blank" % index)
        if flag > 1:
            raise Bad("entry %d has flag %d" % (index, flag))
        name = raw.hex().encode()
        if flag:
            return Entry(WRITABLE | ARCHIP, b"archip_" + name)
        return Entry(ZERO if name == ZERO_NAME else 0, name)

    def entries_v2(self):
        for number in range(-(-self.count // self.per_chunk)):
            data = self.maps.read(self.chunk_name(number))
            first = number * self.per_chunk
            for index in range(first, min(first + self.per_chunk, self.count)):
                at = 128 * (index - first)
                yield self.entry_v2(index, data[at : at + 128])

    @staticmethod
    def entry_v2(index, stored):
        if len(stored) < 128:
            raise Bad("entry %d is cut off" % index)
        flags, length = struct.unpack("<BI", stored[:5])
        if flags > 15 or not 1 <= length <= 123:
            raise Bad("entry %d has flags %#x and a name of %d bytes" % (index, flags, length))
        name, padding = stored[5 : 5 + length], stored[5 + length :]
        if any(padding) or b"\0" in name or b"/" in name or name in (b".", b".."):
            raise Bad("entry %d has a damaged name" % index)
        return Entry(flags, name)

    def is_stale(self, entry):
        """The volume's own object of another epoch: a snapshot died before it was marked."""
        own = OWN.match(entry.name)
        return bool(own and own[1] == self.header_object and int(own[2], 16) != self.epoch)

    def writes_in_place(self, entry):
        return entry.flags & 15 in (WRITABLE, WRITABLE | ARCHIP) and not self.is_stale(entry)

    def summary(self):
        kinds = collections.Counter()
        for entry in self.entries():
            if entry.flags & DELETED:
                kinds["deleted"] += 1
            elif entry.flags & ZERO or entry.name == ZERO_NAME:
                kinds["zero"] += 1
            elif self.writes_in_place(entry):
                kinds["writable"] += 1
            else:
                kinds["shared"] += 1
        return dict(kinds)

    def describe(self):
        found = {
            "name": show(self.name),
            "header_object": show(self.header_object),
            "layout": self.maps.find(self.header_object)[0],
            "version": self.version,
            "readonly": self.readonly,
            "deleted": self.deleted,
            "epoch": self.epoch,
            "size": self.size,
            "block_size": self.block_size,
            "blocks": self.count,
        }
        try:
            found["entries"] = self.summary()
        except Bad as why:
            # A renamed volume leaves its header behind, and no chunks.
            found["entries"] = None if self.deleted else {"error": str(why)}
        return found


def block_content(entry, blocks, length):
    """One block of a volume; what was never written is zeros."""
    if entry.flags & DELETED:
        raise Bad("a block is deleted")
    if entry.flags & ZERO or entry.name == ZERO_NAME:
        return bytes(length)
    if not blocks.has(entry.name):
        if not entry.flags & ARCHIP:
            raise Bad("object %s is missing" % show(entry.name))
        return bytes(length)
    return blocks.read(entry.name, length).ljust(length, b"\0")


def content_hash(volume, blocks):
    if volume.deleted:
        raise Bad("the volume is deleted")
    digest, left = hashlib.sha256(), volume.size
    for entry in volume.entries():
        length = min(left, volume.block_size)
        digest.update(block_content(entry, blocks, length))
        left -= length
    return digest.hexdigest()


def open_volume(maps, name, assume_v0, v0_size):
    for candidate in (name, b"archip_" + name):
        if maps.has(candidate):
            return Map(maps, candidate, assume_v0, v0_size)
    raise Bad("there is no volume %s" % show(name))


def is_data_block(tree, name):
    """Where maps and blocks share a directory, a hash name may be either."""
    return hashlib.sha256(tree.read(name).rstrip(b"\0")).hexdigest().encode() == name


def all_maps(maps, shared, problems):
    """Every map found by a scan; a v0 map is one by its name alone."""
    for name in sorted(maps.paths):
        if not maps.has(name) or name.endswith(b"_lock"):
            continue
        head = maps.read(name, 32)
        old = bool(HASH.match(name)) and head[:4] != b"AMF."
        if old and shared and is_data_block(maps, name):
            continue
        if not old and (CHUNK.match(name) or head[:4] not in (b"AMF.", b"\1\0\0\0")):
            continue
        try:
            yield Map(maps, name, assume_v0=old)
        except Bad as why:
            problems.append("map %s: %s" % (show(name), why))


class Checker:
    """Verifies what must hold in any tree, and notes what is odd but allowed."""

    def __init__(self, maps, blocks):
        self.maps, self.blocks = maps, blocks
        self.problems, self.notes = [], []
        self.users = collections.defaultdict(list)
        self.counts = collections.Counter()

    def problem(self, text, *args):
        self.problems.append(text % args)

    def note(self, text, *args):
        self.notes.append(text % args)

    def run(self, volumes):
        for tree in {self.maps.root: self.maps, self.blocks.root: self.blocks}.values():
            self.check_places(tree)
        for volume in volumes:
            try:
                self.check_header(volume)
                self.check_chunks(volume)
                self.check_entries(volume)
            except Bad as why:
                self.problem("map %s: %s", show(volume.header_object), why)
        self.check_sharing()
        self.check_orphans(volumes)

    def check_places(self, tree):
        for name, paths in tree.paths.items():
            allowed = [path for _, path in tree.places(name)]
            for path in paths:
                if path not in allowed and path != b".archipelago":
                    self.problem("file %s is at none of its places", show(path))

    def check_header(self, volume):
        if volume.version == 2 and any(volume.raw[32:]):
            self.note("header %s is followed by old bytes", show(volume.header_object))

    def check_chunks(self, volume):
        if volume.version != 2:
            return
        needed = -(-volume.count // volume.per_chunk)
        for number in range(needed):
            name = volume.chunk_name(number)
            if not self.maps.has(name):
                if not volume.deleted:
                    self.problem("chunk %s is missing", show(name))
                continue
            size = self.maps.size(name)
            entries = min(volume.per_chunk, volume.count - number * volume.per_chunk)
            if size < 128 * entries or size % 128 or size > round_up(volume.block_size, SECTOR):
                self.problem("chunk %s has %d bytes for %d entries", show(name), size, entries)
        if self.maps.has(volume.chunk_name(needed)):
            self.note("map %s has chunks beyond its size", show(volume.header_object))

    def check_entries(self, volume):
        if volume.deleted and not self.maps.has(volume.chunk_name(0)):
            return
        for index, entry in enumerate(volume.entries()):
            where = "entry %d of %s" % (index, show(volume.header_object))
            self.check_flags(volume, entry, where)
            self.check_own_name(volume, index, entry, where)
            if not volume.deleted:
                self.check_object(volume, entry, where)

    def check_flags(self, volume, entry, where):
        if entry.flags & DELETED:
            if entry.flags != 15:
                self.problem("%s is deleted, but with flags %#x", where, entry.flags)
            if not volume.deleted:
                self.note("%s is deleted, the volume is not (yet)", where)
        elif bool(entry.flags & ZERO) != (entry.name == ZERO_NAME):
            self.problem("%s: flags %#x do not fit the name %s", where, entry.flags, show(entry.name))
        elif entry.flags & ZERO and entry.flags & WRITABLE:
            self.problem("%s is a writable zero block", where)
        elif entry.flags & WRITABLE and volume.readonly:
            self.problem("%s is writable, the map is not", where)

    def check_own_name(self, volume, index, entry, where):
        own = OWN.match(entry.name)
        if not own or own[1] != volume.header_object:
            return
        if int(own[3], 16) != index:
            self.problem("%s names the object of another block: %s", where, show(entry.name))
        if int(own[2], 16) > volume.epoch:
            self.problem("%s names an epoch to come: %s", where, show(entry.name))
        if entry.flags & WRITABLE and not entry.flags & DELETED and volume.is_stale(entry):
            self.note("%s is writable in an epoch that is over", where)

    def check_object(self, volume, entry, where):
        if entry.flags & (DELETED | ZERO):
            return
        writes = volume.writes_in_place(entry)
        self.users[entry.name].append((where, writes, writes and entry.flags & ARCHIP))
        if self.blocks.has(entry.name):
            self.counts["objects"] += 1
        elif entry.flags & ARCHIP:
            self.counts["missing_read_as_zeros"] += 1
        else:
            self.problem("%s: object %s is missing", where, show(entry.name))

    def check_sharing(self):
        """An object that Archipelago made for a volume is nobody else's. One that a client named
        in a CREATE may be used elsewhere; that is the client's business."""
        for name, users in self.users.items():
            if len(users) > 1 and any(writes for _, writes, _ in users):
                report = self.problem if any(made for _, _, made in users) else self.note
                owners = " and ".join(where for where, _, _ in users)
                report("object %s is written by one and used by %s", show(name), owners)

    def check_orphans(self, volumes):
        headers = {volume.header_object for volume in volumes}
        for name in self.maps.paths:
            chunk = CHUNK.match(name)
            if chunk and not OWN.match(name) and chunk[1] not in headers:
                self.note("chunk %s has no header", show(name))
        for name in self.blocks.paths:
            if OWN.match(name) and name not in self.users:
                self.counts["unused_objects"] += 1


def print_volumes(volumes):
    for v in volumes:
        kind = "deleted" if v["deleted"] else "read-only" if v["readonly"] else "volume"
        entries = v["entries"] or {}
        counts = " ".join("%s=%s" % item for item in sorted(entries.items()))
        print("%-40s v%d %-9s epoch %d size %d block size %d: %s"
              % (v["name"], v["version"], kind, v["epoch"], v["size"], v["block_size"], counts))


def command_list(args, maps, blocks):
    problems = []
    found = list(all_maps(maps, maps.root == blocks.root, problems))
    result = {"volumes": [volume.describe() for volume in found]}
    if args.check:
        checker = Checker(maps, blocks)
        checker.run(found)
        problems += checker.problems
        result["notes"], result["counts"] = checker.notes, dict(checker.counts)
    result["problems"] = problems
    if args.json:
        print(json.dumps(result, indent=1, sort_keys=True))
    else:
        print_volumes(result["volumes"])
        for kind in ("problems", "notes"):
            for text in result.get(kind, ()):
                print("%s: %s" % (kind[:-1], text))
    return 1 if problems else 0


def command_hash(args, volume, blocks):
    found = content_hash(volume, blocks)
    print(json.dumps({"size": volume.size, "sha256": found}) if args.json else found)
    return 0


def command_entries(args, volume):
    found = [{"flags": e.flags, "name": show(e.name)} for e in volume.entries()]
    if args.json:
        print(json.dumps(found, indent=1))
    else:
        for index, entry in enumerate(found):
            print("%d %02x %s" % (index, entry["flags"], entry["name"]))
    return 0


def main():
    parser = argparse.ArgumentParser(description="Decode the maps in a directory.")
    parser.add_argument("maps", help="archip_dir of blockerm")
    parser.add_argument("blocks", help="archip_dir of blockerb")
    parser.add_argument("--json", action="store_true", help="print JSON")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--check", action="store_true", help="verify everything")
    what.add_argument("--hash", metavar="VOL", help="print the sha256 of a volume's content")
    what.add_argument("--entries", metavar="VOL", help="print a volume's entries")
    parser.add_argument("--assume-v0", action="store_true", help="the map may be v0")
    parser.add_argument("--v0-size", metavar="BYTES", type=int, help="size of the v0 volume")
    args = parser.parse_args()
    maps = Tree(args.maps)
    same = os.path.realpath(args.maps) == os.path.realpath(args.blocks)
    blocks = maps if same else Tree(args.blocks)
    wanted = args.hash or args.entries
    try:
        if not wanted:
            return command_list(args, maps, blocks)
        volume = open_volume(maps, os.fsencode(wanted), args.assume_v0, args.v0_size)
        return command_hash(args, volume, blocks) if args.hash else command_entries(args, volume)
    except Bad as why:
        print("%s: %s" % (wanted, why), file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
