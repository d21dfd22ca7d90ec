"""`archipelago.vlmc` and `archipelago.archipelago` on a node that its supervisor keeps."""

import contextlib
import getpass
import grp
import io
import os
import shutil
import tempfile
import unittest

from archipelago import Volume, archipelago, common, vlmc
from archipelago.common import Error, config, loadrc, peers
from support import Peers

CONFIG = """
[ARCHIPELAGO]
USER = {user}
GROUP = {group}
BLKTAP_ENABLED = {devices}
ENDPOINT = nbd
RUN_DIR = run
LOG_DIR = log
[XSEG]
SEGMENT_PORTS = 128
SEGMENT_DYNPORTS = 64
SEGMENT_SIZE = 256
VTOOL_START = 8
VTOOL_END = 9
[PEERS]
ROLES = blockerb blockerm mapperd vlmcd
[blockerb]
type = file_blocker
portno_start = 0
portno_end = 0
archip_dir = blocks
direct = False
nr_ops = 64
process = node
[blockerm]
type = file_blocker
portno_start = 2
portno_end = 2
archip_dir = maps
lock_dir = locks
direct = False
nr_ops = 64
process = node
[mapperd]
type = mapperd
portno_start = 1
portno_end = 1
blockerb_port = 0
blockerm_port = 2
nr_ops = 64
process = node
[vlmcd]
type = vlmcd
portno_start = 3
portno_end = 7
blocker_port = 0
mapper_port = 1
nr_ops = 64
umask = 0o027
process = node
"""
MIB = 1 << 20


def folder(devices=True):
    """A node's folder and its configuration."""
    path = tempfile.mkdtemp(prefix="archip")
    for name in ("blocks", "maps", "locks", "run", "log"):
        os.mkdir(os.path.join(path, name))
    file = os.path.join(path, "archipelago.conf")
    text = CONFIG.format(
        user=getpass.getuser(), group=grp.getgrgid(os.getegid()).gr_name, devices=devices
    )
    with open(file, "w", encoding="utf-8") as opened:
        opened.write(text)
    return path, file


def said(function, *arguments, **keywords):
    """What a function prints."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        function(*arguments, **keywords)
    return out.getvalue()


class Configurations(unittest.TestCase):
    def setUp(self):
        self.path, self.file = folder()
        self.addCleanup(shutil.rmtree, self.path)
        self.addCleanup(setattr, common, "RUN_DIR", common.RUN_DIR)

    def change(self, old, new):
        with open(self.file, encoding="utf-8") as opened:
            text = opened.read()
        self.assertIn(old, text)
        with open(self.file, "w", encoding="utf-8") as opened:
            opened.write(text.replace(old, new))

    def test_keys_are_upper_case_and_peers_are_made(self):
        loadrc(self.file)
        self.assertEqual(config["SEGMENT_PORTS"], 128)
        self.assertEqual(config["BLKTAP_ENABLED"], True)
        self.assertEqual(config["UMASK"], 7)
        self.assertEqual(config["roles"][0], ("blockerb", "file_blocker"))
        self.assertEqual(common.get_segment().get_spec(), "posix:archipelago:64:128:256:12")
        self.assertEqual((peers["vlmcd"].portno_start, peers["vlmcd"].umask), (3, 0o027))
        self.assertEqual(peers["mapperd"].executable, "archip-mapperd")
        filed = peers["blockerm"]
        self.assertEqual(filed.unique_str, f"{common.hostname}_2")
        self.assertEqual(
            filed.cli_opts[:13],
            ["-d", "-n", "64", "-l", os.path.join(self.path, "log/blockerm.log"), "--pidfile",
             os.path.join(self.path, "run/blockerm.pid"), "-sp", "2", "-ep", "2", "-v", "0"],
        )

    def test_what_is_wrong_is_said_in_the_original_words(self):
        for old, new, why in [
            ("SEGMENT_DYNPORTS = 64", "SEGMENT_DYNPORTS = 128", "Dynports >= max ports"),
            ("USER = ", "USER = nobody-such-", "User 'nobody-such-.*' does not exist"),
            ("GROUP = ", "GROUP = no-such-", "Group 'no-such-.*' does not exist"),
            ("type = vlmcd", "type = volumes", "volumes is not a valid role"),
            ("[vlmcd]", "[vlmc]", "No config found for vlmcd"),
            ("archip_dir = maps", "archip_dir = nowhere", "blockerm: Archip dir invalid"),
            ("umask = 0o027", "nr_ops = 63", "nr_ops of vlmcd is not a power of 2"),
            ("portno_end = 7", "portno_end = 8", r"Port range conflict: \(8, 9\) conflicts with"),
            ("portno_end = 7", "portno_end = 700", "Portno 700 out of range"),
            ("ROLES = blockerb blockerm mapperd vlmcd", "ROLES =", "Roles setup must be provided"),
            ("VTOOL_END = 9", "", "VTOOL_END is missing"),
            ("[XSEG]", "XSEG", "Cannot read config file"),
        ]:
            with self.subTest(why):
                self.change(old, new)
                with self.assertRaisesRegex(Error, why):
                    loadrc(self.file)
                self.setUp()
        with self.assertRaisesRegex(Error, "Cannot read config file"):
            loadrc("/no/such/file")


class Names(unittest.TestCase):
    def test_reserved_forms(self):
        for name, valid in [
            ("volume", True),
            ("archip_volume", False),
            ("volume_lock", False),
            ("locks_of_mine", True),
            ("v_0123456789abcdef", False),
            ("v_0123456789abcdef_more", False),
            ("v_0123456789ABCDEF", True),
            (b"volume_lock", False),
        ]:
            self.assertEqual(vlmc.is_valid_name(name), valid, name)


class Node(unittest.TestCase):
    devices = True

    @classmethod
    def setUpClass(cls):
        cls.path, cls.file = folder(cls.devices)
        cls.addClassCleanup(shutil.rmtree, cls.path)
        loadrc(cls.file)
        cls.addClassCleanup(archipelago.stop)
        archipelago.start()


class Volumes(Node):
    def test_status_counts_what_runs(self):
        self.assertEqual(archipelago.status(), 4)
        self.assertIn("running", said(archipelago.status, cli=True))

    def test_a_volumes_life(self):
        vlmc.create("living", size=10, whatever="is ignored")
        self.assertEqual(vlmc.info("living"), 10 * MIB)
        self.assertEqual(said(vlmc.info, "living", cli=True), f"Volume living: size: {10 * MIB}\n")
        self.assertEqual(said(vlmc.open_volume, "living", cli=True), "Volume opened\n")
        vlmc.open_volume(b"living")
        text = said(vlmc.snapshot, "living", snap_name="living-snap", cli=True)
        self.assertEqual(text, "Snapshot name: living-snap\n")
        vlmc.create("living-clone", snap="living-snap")
        vlmc.resize("living-clone", 20)
        self.assertEqual(vlmc.info("living-clone"), 20 * MIB)
        vlmc.rename("living-clone", newname="living-other")
        self.assertEqual(said(vlmc.close_volume, "living", cli=True), "Volume closed\n")
        with self.assertRaisesRegex(Error, "vlmc close failed"):
            vlmc.close_volume("living")
        vlmc.update_volume("living")
        self.assertEqual(len(vlmc.hash("living-snap")), 64)
        vlmc.remove("living-other")
        found = {volume.name: volume for volume in vlmc.list_volumes()}
        self.assertTrue(found["living-other"].deleted)
        self.assertEqual(found["living-snap"][1:4], (2, "living-snap", True))
        self.assertNotIn("living-other", said(vlmc.list_volumes, cli=True))

    def test_locks_are_taken_and_given_back(self):
        vlmc.create("locked", size=1)
        vlmc.lock("locked")
        self.assertEqual(said(vlmc.unlock, "locked", cli=True), "Volume unlocked\n")
        with self.assertRaisesRegex(Error, "vlmc unlock failed"):
            vlmc.unlock("locked")

    def test_bad_input_is_refused(self):
        vlmc.create("refused", size=1)
        for call, why in [
            (lambda: vlmc.create("five5", size=1), "Name should have at least len 6"),
            (lambda: vlmc.create("refused"), "At least one of the size/snap args"),
            (lambda: vlmc.create("refused", size=1), "vlmc creation failed: File exists"),
            (lambda: vlmc.create("archip_refused", size=1), "Invalid volume name"),
            (lambda: vlmc.snapshot("refused"), "Invalid snapshot name"),
            (lambda: vlmc.snapshot("refused", "x_lock"), "Invalid snapshot name"),
            (lambda: vlmc.rename("refused", "five5"), "New name should have at least len 6"),
            (lambda: vlmc.rename("refused", "refused_lock"), "Invalid new name"),
            (lambda: vlmc.info("no-such-volume"), "vlmc info failed: No such file"),
            (lambda: vlmc.open_volume("no-such-volume"), "vlmc open failed"),
            (lambda: vlmc.remove("no-such-volume"), "vlmc removal failed"),
            (lambda: vlmc.hash("refused"), "vlmc hash failed"),
            (lambda: vlmc.resize("refused", 0), "vlmc resize failed"),
            (lambda: vlmc.unmap_volume("/dev/nothing"), "Device doesn't exist"),
        ]:
            with self.assertRaisesRegex(Error, why):
                call()

    def test_volumes_are_mapped_and_unmapped(self):
        vlmc.create("mapped", size=1)
        self.assertIsNone(vlmc.is_mapped("mapped"))
        device = common.DEVICE_PREFIX + vlmc.map_volume("mapped")
        try:
            minor = vlmc.is_mapped("mapped")
            self.assertIsNotNone(minor)
            self.assertEqual(vlmc.is_device_mapped(device), minor)
            [mapped] = vlmc.get_mapped()
            self.assertEqual(mapped[:3], (minor, "mapped", device))
            table = said(vlmc.showmapped)
            self.assertEqual(table, f"id\timage\t\tdevice\n{minor}\tmapped\t{device}\n")
            for call, why in [
                (lambda: vlmc.map_volume("mapped"), "already mapped on device"),
                (lambda: vlmc.remove("mapped"), "Volume mapped mapped on device"),
                (lambda: vlmc.rename("mapped", "mapped2"), "Cannot rename a mapped resource"),
            ]:
                with self.assertRaisesRegex(Error, why):
                    call()
        finally:
            vlmc.unmap_volume(device)
        self.assertEqual(said(vlmc.showmapped), "No volumes mapped\n\n")

    def test_a_native_volume_by_configuration(self):
        vlmc.create("native", size=1)
        with Volume("native", config=self.file) as volume:
            volume.write(b"content")
        with Volume("native", config=self.file) as volume:
            self.assertEqual(volume.read(7), b"content")


class WithoutDevices(Node):
    devices = False

    def test_nothing_is_mapped_and_the_rest_works(self):
        self.assertEqual(vlmc.get_mapped(), [])
        self.assertIsNone(vlmc.is_mapped("anything"))
        with self.assertRaisesRegex(Error, "disabled"):
            vlmc.map_volume("anything")
        vlmc.create("device-less", size=1)
        vlmc.remove("device-less")

    def test_the_node_stops_and_starts(self):
        archipelago.stop(role="vlmcd")
        self.assertEqual(archipelago.status(), 0)
        archipelago.start(role="vlmcd")
        self.assertEqual(archipelago.status(), 4)
        with self.assertRaisesRegex(Error, "Cannot start"):
            archipelago.start()
        archipelago.restart()
        self.assertEqual(archipelago.status(), 4)
        with self.assertRaises(Error):
            archipelago.stop(role="nobody")


class Programs(unittest.TestCase):
    def test_peers_are_started_and_stopped_one_by_one(self):
        made = Peers()
        self.addCleanup(made.stop)
        made.segment.create()
        text = said(archipelago.start_peers, made.all, cli=True)
        self.assertEqual(text.splitlines()[0].split(), ["Starting", "blockerb", "OK"])
        self.assertTrue(all(archipelago.peer_running(peer) for peer in made.all))
        with self.assertRaisesRegex(Error, "Cannot start peer vlmcd. Peer already running"):
            archipelago.start_peer(made.vlmcd)
        archipelago.stop_peer(made.vlmcd)
        self.assertFalse(archipelago.peer_running(made.vlmcd))
        with open(made.vlmcd.pidfile, "w", encoding="ascii") as pidfile:
            pidfile.write("1")
        stale = said(archipelago.peer_running, made.vlmcd, cli=True)
        self.assertIn("Has valid pidfile but does not seem to be active", stale)
        with self.assertRaisesRegex(Error, "has valid pidfile but is not running"):
            made.vlmcd.stop()
        self.assertIn("gone", said(archipelago.start_peer, made.vlmcd))
        archipelago.stop_peers(made.all)
        self.assertIn("Not running", said(archipelago.stop_peer, made.vlmcd, cli=True))

    def test_a_peer_that_cannot_start_says_why(self):
        made = Peers()
        self.addCleanup(made.stop)
        with self.assertRaisesRegex(Error, "Couldn't start vlmcd: .*not running"):
            made.vlmcd.start()


if __name__ == "__main__":
    unittest.main()
