"""Puts libxseg beside the package, so that the wheel works without the system's.

The library is the file that $ARCHIPELAGO_LIBXSEG names, or what `cargo build --release -p libxseg`
makes of this checkout. With ARCHIPELAGO_LIBXSEG= (empty) the wheel has none, and uses the system's
libxseg.so.0: that is how the Debian packages are made.
"""

import os
import shutil
import subprocess

from setuptools import setup
from setuptools.command.build_py import build_py
from setuptools.dist import Distribution

HERE = os.path.dirname(os.path.abspath(__file__))
WORKSPACE = os.path.dirname(HERE)
VARIABLE = "ARCHIPELAGO_LIBXSEG"


def library():
    """The file to put in, or None."""
    if VARIABLE in os.environ:
        return os.environ[VARIABLE] or None
    subprocess.run(["cargo", "build", "--release", "-p", "libxseg"], cwd=WORKSPACE, check=True)
    target = os.environ.get("CARGO_TARGET_DIR", os.path.join(WORKSPACE, "target"))
    return os.path.join(WORKSPACE, target, "release", "libxseg_c.so")


BUNDLED = os.environ.get(VARIABLE) != ""


class Build(build_py):
    """The modules, and the library."""

    def run(self):
        super().run()
        found = library()
        if found:
            shutil.copy(found, os.path.join(self.build_lib, "xseg", "libxseg.so.0"))


class Platform(Distribution):
    """Not for every machine when it brings a library."""

    def has_ext_modules(self):
        return BUNDLED


commands = {"build_py": Build}
try:
    from setuptools.command.bdist_wheel import bdist_wheel
except ImportError:
    try:
        from wheel.bdist_wheel import bdist_wheel
    except ImportError:
        bdist_wheel = None

if bdist_wheel is not None:

    class Wheel(bdist_wheel):
        """For any Python 3: the library is reached through ctypes."""

        def get_tag(self):
            _, _, platform = super().get_tag()
            return "py3", "none", platform

    commands["bdist_wheel"] = Wheel

setup(cmdclass=commands, distclass=Platform)
