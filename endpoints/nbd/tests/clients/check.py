"""What libnbd's Python binding sees of the server. Usage: check.py FUNCTION URI."""

import errno
import sys

import nbd

SIZE = 8 << 20


def connect(uri, structured=True):
    handle = nbd.NBD()
    # Let requests out that a polite client would refuse to send.
    handle.set_strict_mode(0)
    handle.set_request_structured_replies(structured)
    if structured:
        handle.add_meta_context(nbd.CONTEXT_BASE_ALLOCATION)
    handle.connect_uri(uri)
    return handle


def status(handle, count, offset, flags=0):
    found = []

    def extent(context, start, entries, error):
        assert context == nbd.CONTEXT_BASE_ALLOCATION and start == offset
        found.extend(zip(entries[::2], entries[1::2]))

    handle.block_status(count, offset, extent, flags)
    return found


def fails(number, call):
    try:
        call()
    except nbd.Error as error:
        assert error.errno == errno.errorcode[number], (error.errno, number)
        return str(error)
    raise AssertionError("this should have failed")


def holes_and_flags(uri):
    handle = connect(uri)
    assert handle.get_structured_replies_negotiated()
    assert handle.can_df() and handle.can_fast_zero() and handle.can_multi_conn()
    assert handle.get_size() == SIZE
    assert status(handle, SIZE, 0) == [(SIZE, 3)]
    handle.pwrite(b"x" * 65536, 65536, nbd.CMD_FLAG_FUA)
    handle.pwrite(b"y" * 4096, 1 << 20)
    expected = [(65536, 3), (65536, 0), ((1 << 20) - 131072, 3), (4096, 0)]
    assert status(handle, SIZE, 0)[:4] == expected
    assert status(handle, 70000, 60000) == [(5536, 3), (64464, 0)]
    assert status(handle, SIZE, 0, nbd.CMD_FLAG_REQ_ONE) == [(65536, 3)]
    handle.trim(65536, 65536, nbd.CMD_FLAG_FUA)
    handle.zero(4096, 1 << 20, nbd.CMD_FLAG_NO_HOLE)
    assert status(handle, SIZE, 0)[0] == (1 << 20, 3)
    handle.zero(4096, 1 << 20, nbd.CMD_FLAG_FUA | nbd.CMD_FLAG_FAST_ZERO)
    assert status(handle, SIZE, 0) == [(SIZE, 3)]
    handle.pwrite(b"z" * 512, 0)
    chunks = []

    def chunk(data, offset, kind, error):
        chunks.append((offset, len(data), kind))

    assert handle.pread_structured(8192, 0, chunk)[:512] == b"z" * 512
    assert sum(part[1] for part in chunks) == 8192
    chunks.clear()
    handle.pread_structured(65536, 1 << 20, chunk, nbd.CMD_FLAG_DF)
    assert chunks == [(1 << 20, 65536, nbd.READ_HOLE)], chunks
    handle.flush()
    handle.shutdown()


def errors(uri):
    handle = connect(uri)
    fails(errno.EINVAL, lambda: handle.pread(4096, SIZE))
    fails(errno.EINVAL, lambda: handle.pread(4096, SIZE - 1))
    fails(errno.ENOSPC, lambda: handle.pwrite(b"a" * 4096, SIZE - 1))
    fails(errno.ENOSPC, lambda: handle.zero(4096, SIZE))
    fails(errno.EINVAL, lambda: handle.trim(4096, SIZE))
    fails(errno.EINVAL, lambda: handle.cache(4096, 0))
    fails(errno.EINVAL, lambda: handle.pread(512, 0, nbd.CMD_FLAG_NO_HOLE))
    # Its whole payload is to be skipped.
    fails(errno.ENOSPC, lambda: handle.pwrite(b"a" * (48 << 20), 0))
    # ESTALE is not one of the protocol's errors.
    fails(errno.EIO, lambda: handle.pread(8192, (1 << 20) - 4096))
    fails(errno.EIO, lambda: handle.pwrite(b"a" * 8192, 1 << 20))
    where = []

    def chunk(data, offset, kind, error):
        where.append((offset, kind))

    fails(errno.EIO, lambda: handle.pread_structured(8192, (1 << 20) - 4096, chunk))
    assert where == [(1 << 20, nbd.READ_ERROR)], where
    # The connection is as good as before.
    handle.pwrite(b"b" * 4096, 0)
    assert handle.pread(4096, 0) == b"b" * 4096
    handle.shutdown()


def read_only(uri):
    handle = connect(uri)
    assert handle.is_read_only()
    assert handle.pread(4096, 0) == bytes(4096)
    fails(errno.EPERM, lambda: handle.pwrite(b"a" * 4096, 0))
    fails(errno.EPERM, lambda: handle.zero(4096, 0))
    fails(errno.EPERM, lambda: handle.trim(4096, 0))
    handle.flush()


def simple_replies(uri):
    handle = connect(uri, structured=False)
    assert not handle.get_structured_replies_negotiated() and not handle.can_df()
    handle.pwrite(b"c" * 100000, 50)
    assert handle.pread(100000, 50) == b"c" * 100000
    assert handle.pread(4096, 1 << 20) == bytes(4096)
    fails(errno.EINVAL, lambda: handle.pread(4096, SIZE))
    assert handle.pread(1, 50) == b"c"


def four_connections(uri):
    handles = [connect(uri) for _ in range(4)]
    block = 4096
    for turn in range(8):
        for index, handle in enumerate(handles):
            for number in range(32):
                data = bytearray([turn * 4 + index + 1]) * block
                place = (number * 4 + index) * block
                handle.aio_pwrite(nbd.Buffer.from_bytearray(data), place)
        for handle in handles:
            while handle.aio_in_flight() > 0:
                handle.poll(10000)
    handles[0].flush()
    for index in range(4):
        for number in range(32):
            place = (number * 4 + index) * block
            seen = handles[3 - index].pread(block, place)
            assert seen == bytes([7 * 4 + index + 1]) * block
    for handle in handles:
        handle.shutdown()


if __name__ == "__main__":
    globals()[sys.argv[1]](sys.argv[2])
