"""`archip-poold` and its client, by itself and as a role of a node."""

import os
import signal
import socket
import stat
import struct
import subprocess
import sys
import unittest

from archipelago import archipelago, common, vlmc
from archipelago.common import Error, Poold, Request, Xseg_ctx
from archipelago.pool import ArchipelagoPoolClient, PoolClient
from support import MAPPER, SPEC, PeersTest
from test_tools import folder

SEGMENT = dict(segname=SPEC[1], dynports=SPEC[2], ports=SPEC[3], segsize=SPEC[4])

BORROWER = """
import sys
from archipelago.pool import PoolClient
client = PoolClient(sys.argv[1])
print([client.borrow() for _ in range(4)], flush=True)
sys.stdin.read()
"""


class Alone(PeersTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.socket = os.path.join(cls.peers.dir, "run", "poold.socket")
        cls.poold = Poold(role="poold", portno_start=4, portno_end=7, socket_path=cls.socket)

    def setUp(self):
        super().setUp()
        self.poold.start()
        self.addCleanup(lambda: self.poold.is_running() and self.poold.stop())

    def client(self):
        client = PoolClient(self.socket)
        client.connect()
        self.addCleanup(client.close)
        return client

    def test_ports_are_lent_and_given_back(self):
        one, other = self.client(), self.client()
        self.assertEqual([one.borrow() for _ in range(5)], [4, 5, 6, 7, None])
        self.assertIsNone(other.borrow())
        self.assertFalse(other.give_back(5))
        self.assertTrue(one.give_back(5))
        self.assertFalse(one.give_back(5))
        self.assertEqual(other.borrow(), 5)
        self.assertTrue(one.leave_all_ports())
        self.assertEqual(sorted(other.borrow() for _ in range(3)), [4, 6, 7])

    def test_the_end_of_a_connection_gives_its_ports_back(self):
        command = [sys.executable, "-c", BORROWER, self.socket]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as borrower:
            self.assertEqual(borrower.stdout.readline(), b"[4, 5, 6, 7]\n")
            borrower.send_signal(signal.SIGKILL)
            borrower.wait()
        client = self.client()
        self.assertEqual(sorted(client.borrow() for _ in range(4)), [4, 5, 6, 7])

    def test_the_words_on_the_wire_are_the_originals(self):
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as raw:
            raw.connect(self.socket)
            # In pieces, and several at once.
            request = struct.pack(">II", 0, 0)
            raw.sendall(request[:3])
            raw.sendall(request[3:] + struct.pack(">II", 1, 4) + struct.pack(">II", 1, 4))
            self.assertEqual(struct.unpack("=iii", raw.recv(12, socket.MSG_WAITALL)), (4, 1, 0))
            raw.sendall(struct.pack(">II", 3, 0))
            self.assertEqual(raw.recv(1), b"")

    def test_who_does_not_listen_is_hung_up_on(self):
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as raw:
            raw.connect(self.socket)
            raw.sendall(struct.pack(">II", 0, 0))
            raw.settimeout(60)
            with self.assertRaises(OSError):
                while True:
                    raw.sendall(struct.pack(">II", 2, 0) * 1000)
        self.assertEqual(self.client().borrow(), 5)

    def test_a_client_sees_that_it_is_gone(self):
        client = self.client()
        self.assertTrue(client.alive())
        self.poold.stop()
        self.assertFalse(os.path.exists(self.socket))
        self.assertFalse(client.alive())
        with self.assertRaisesRegex(Error, "Cannot ask poold"):
            client.borrow()
        with self.assertRaisesRegex(Error, "Cannot connect to poold"):
            client.borrow()
        self.assertFalse(client.alive())

    def test_only_one_listens(self):
        second = Poold(
            role="second",
            portno_start=4,
            portno_end=7,
            socket_path=self.socket,
            pidfile=os.path.join(self.peers.dir, "run", "second.pid"),
        )
        with self.assertRaisesRegex(Error, "can't listen at"):
            second.start()
        self.assertEqual(stat.S_IMODE(os.stat(self.socket).st_mode), 0o660)

    def test_a_socket_that_a_dead_one_left_is_replaced(self):
        pid = self.poold.get_pid()
        process = os.pidfd_open(pid)
        os.kill(pid, signal.SIGKILL)
        import select

        select.select([process], [], [])
        os.close(process)
        self.assertTrue(os.path.exists(self.socket))
        self.poold.start()
        self.assertEqual(self.client().borrow(), 4)

    def test_contexts_are_lent(self):
        with ArchipelagoPoolClient(endpoint=self.socket, **SEGMENT) as client:
            contexts = [client.get_port() for _ in range(4)]
            self.assertEqual([ctx.portno for ctx in contexts], [4, 5, 6, 7])
            self.assertIsNone(client.get_port())
            request = Request.get_info_request(contexts[0], MAPPER, "no-such-volume")
            request.submit()
            request.wait()
            self.assertFalse(request.success())
            self.assertTrue(client.leave_port(contexts[2]))
            self.assertEqual(client.get_port().portno, 6)
            self.assertTrue(client.leave_all_ports())
        with self.assertRaisesRegex(Error, "must be provided"):
            ArchipelagoPoolClient(endpoint=self.socket)

    def test_a_port_that_somebody_else_bound_is_not_kept(self):
        code = (
            "import sys; from archipelago.common import *; from archipelago import common;"
            "common.set_run_dir(sys.argv[1]); c = Xseg_ctx(Segment(*eval(sys.argv[2])), 4);"
            "print('bound', flush=True); sys.stdin.read()"
        )
        command = [sys.executable, "-c", code, common.RUN_DIR, repr(SPEC)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
            self.assertEqual(other.stdout.readline(), b"bound\n")
            with ArchipelagoPoolClient(endpoint=self.socket, **SEGMENT) as client:
                with self.assertRaisesRegex(Error, "port 4 is in use"):
                    client.get_port()
                self.assertEqual(client.get_port().portno, 5)
            other.stdin.close()


class AsARole(unittest.TestCase):
    def test_a_node_keeps_its_poold(self):
        path, file = folder(devices=False)
        import shutil

        self.addCleanup(shutil.rmtree, path)
        with open(file, encoding="utf-8") as opened:
            text = opened.read()
        with open(file, "w", encoding="utf-8") as opened:
            opened.write(
                text.replace("mapperd vlmcd\n", "mapperd vlmcd poold\n")
                + "[poold]\ntype = poold\nportno_start = 20\nportno_end = 29\n"
            )
        common.loadrc(file)
        self.addCleanup(archipelago.stop)
        archipelago.start()
        self.assertEqual(archipelago.status(), 5)
        with ArchipelagoPoolClient(conffile=file) as client:
            ctx = client.get_port()
            self.assertEqual(ctx.portno, 20)
            vlmc.create("lent-to", size=1)
            with Request.get_info_request(ctx, 1, "lent-to") as request:
                request.submit()
                request.wait()
                self.assertTrue(request.success())


if __name__ == "__main__":
    unittest.main()
