"""`pip wheel python/` gives a wheel with the library inside, which works where it is installed."""

import os
import shutil
import subprocess
import sys
import tempfile
import unittest
import zipfile

HERE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


class Wheel(unittest.TestCase):
    def setUp(self):
        self.dir = tempfile.mkdtemp(prefix="wheel")
        self.addCleanup(shutil.rmtree, self.dir)
        # Building leaves its traces beside the sources; these are a copy's.
        self.source = os.path.join(self.dir, "python")
        shutil.copytree(HERE, self.source)

    def build(self, library):
        command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "-q"]
        command += ["--no-build-isolation", "--no-deps", "-w", self.dir, self.source]
        environment = dict(os.environ, ARCHIPELAGO_LIBXSEG=library)
        subprocess.run(command, env=environment, check=True)
        [wheel] = [name for name in os.listdir(self.dir) if name.endswith(".whl")]
        return os.path.join(self.dir, wheel)

    def test_with_a_library(self):
        wheel = self.build(os.environ["ARCHIPELAGO_LIBXSEG"])
        self.assertRegex(os.path.basename(wheel), r"-py3-none-linux_\w+\.whl$")
        with zipfile.ZipFile(wheel) as opened:
            names = opened.namelist()
            opened.extractall(os.path.join(self.dir, "site"))
        for name in ("xseg/libxseg.so.0", "xseg/py.typed", "archipelago/py.typed",
                     "archipelago/common.py"):
            self.assertIn(name, names)
        environment = {"PYTHONPATH": os.path.join(self.dir, "site"), "PATH": os.environ["PATH"]}
        code = "import xseg.xseg_api as x, archipelago.common; print(x._library._name)"
        said = subprocess.run(
            [sys.executable, "-c", code], env=environment, check=True, stdout=subprocess.PIPE
        )
        self.assertEqual(
            said.stdout.decode().strip(), os.path.join(self.dir, "site/xseg/libxseg.so.0")
        )

    def test_without_one_it_is_for_every_machine(self):
        wheel = self.build("")
        self.assertTrue(wheel.endswith("-py3-none-any.whl"), wheel)
        with zipfile.ZipFile(wheel) as opened:
            self.assertNotIn("xseg/libxseg.so.0", opened.namelist())


if __name__ == "__main__":
    unittest.main()
