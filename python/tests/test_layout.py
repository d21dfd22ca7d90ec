"""The structures of `xseg.xseg_api` against the header, which a test of the library's compares
with the library."""

import ctypes
import os
import re
import unittest

from xseg import xprotocol, xseg_api

INCLUDE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../xseg/capi/include/xseg")


def header(name):
    """A header without its comments."""
    with open(os.path.join(INCLUDE, name), encoding="utf-8") as opened:
        return re.sub(r"/\*.*?\*/", "", opened.read(), flags=re.DOTALL)


# C types and what ctypes calls them; an array at the end is a pointer in Python.
SIZES = {"uint64_t": 8, "uint32_t": 4, "xport": 4, "int": 4, "char": 1}


def fields(body):
    """(name, bytes) of the fields of a C structure."""
    for declaration in filter(None, (part.strip() for part in body.split(";"))):
        kind, names = re.match(r"(?:const )?((?:struct )?\w+)\s*(.*)$", declaration).groups()
        for name in names.split(","):
            pointer, name, length = re.match(r"\s*(\**)(\w+)(?:\[(\w*)\])?", name).groups()
            if length == "" or pointer:
                yield name, 8
                continue
            count = {None: 1, "XSEG_MAX_TARGETLEN": 256}.get(length) or int(length)
            yield name, SIZES[kind] * count


class Layout(unittest.TestCase):
    def test_structures(self):
        found = 0
        for file, module in (("xseg.h", xseg_api), ("protocol.h", xprotocol)):
            for name, body in re.findall(r"struct (\w+) \{(.*?)\n\};", header(file), re.DOTALL):
                structure = getattr(module, name)
                theirs = [(n, s) for n, s in fields(body) if n != "padding"]
                ours = [
                    (n, ctypes.sizeof(t)) for n, t in structure._fields_ or [] if n != "padding"
                ] or [(n, getattr(structure, n).size) for n, _ in theirs]
                self.assertEqual(ours, theirs, name)
                found += 1
        self.assertGreater(found, 12)

    def test_numbers(self):
        pattern = r"#define (X\w+)\s+(\(1 << \d+\)|\d+)\s"
        for file, module in (("xseg.h", xseg_api), ("protocol.h", xprotocol)):
            numbers = re.findall(pattern, header(file) + "\n")
            self.assertGreater(len(numbers), 2)
            for name, value in numbers:
                self.assertEqual(getattr(module, name), eval(value), name)

    def test_functions(self):
        declared = set(re.findall(r"(xseg_\w+)\(", header("xseg.h")))
        self.assertEqual(declared, {n for n in xseg_api.__all__ if callable(
            getattr(xseg_api, n)) and n.startswith("xseg_")
            and not isinstance(getattr(xseg_api, n), type)})


if __name__ == "__main__":
    unittest.main()
