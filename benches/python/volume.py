"""The Python half of the suite `python`: one line asks for a turn, one line of JSON answers.

    volume.py CONFIG VOLUME read|write BLOCK

A line of input is the budget in nanoseconds. The answer is {"ns": elapsed, "latencies": [ns...]}.
"""

import json
import sys
from time import perf_counter_ns

from archipelago import Node


def main():
    config, name, what, block = sys.argv[1:]
    block = int(block)
    buffer = bytearray(b"\x3c") * block
    with Node(config) as node:
        volume = node.open(name)
        step = volume.readinto if what == "read" else volume.write
        offset, end = 0, volume.size - block
        print("ready", flush=True)
        for line in sys.stdin:
            latencies = []
            start = before = perf_counter_ns()
            until = start + int(line)
            while before < until:
                step(buffer, offset)
                offset = offset + block if offset + block <= end else 0
                now = perf_counter_ns()
                latencies.append(now - before)
                before = now
            print(json.dumps({"ns": before - start, "latencies": latencies}), flush=True)


main()
