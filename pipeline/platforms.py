"""Refuse in one line where set-up cannot work: `python -m pipeline.platforms`, before anything is installed.

Any Python must be able to read this file, the old ones above all: no syntax that is newer than Python 2.7.
"""
# ruff: noqa: UP031

import os
import platform
import struct
import sys
import sysconfig

FIRST_PYTHON, LAST_PYTHON = (3, 11), (3, 14)  # those that all packages have been built for
OLDEST_GLIBC = (2, 28)  # of torch and FAISS
NEEDED = "RAGAR runs on Linux (or WSL 2) on x86-64 processors with glibc %d.%d or newer and CPython %d.%d to %d.%d" % (
    OLDEST_GLIBC + FIRST_PYTHON + LAST_PYTHON
)


def find_refusal(
    system=None, machine=None, implementation=None, version=None, libc=None, bits=None, has_threads=None, has_venv=None
):  # each may be given, for tests; otherwise it is this machine's
    """Return why this machine cannot run the project and what to do instead; None if it can."""
    system = system or platform.system()
    machine = machine or platform.machine()
    implementation = implementation or platform.python_implementation()
    version = tuple(version or sys.version_info)[:2]
    libc = read_libc() if libc is None else libc
    bits = bits or struct.calcsize("P") * 8
    if system != "Linux":
        hint = {"Darwin": "use a Linux machine, or a container for linux/amd64", "Windows": "use WSL 2 with Ubuntu"}
        return "this is %s; %s" % ({"Darwin": "macOS"}.get(system, system), hint.get(system, "use a Linux machine"))
    if machine.lower() not in ("x86_64", "amd64"):
        return "this is a %s processor, for which FAISS and torch with CUDA are not to be had; use an x86-64 machine" % machine
    if implementation != "CPython" or bits != 64:
        return "this is %s with %d bits; use CPython with 64: make PYTHON=/path/to/python3.12 setup" % (implementation, bits)
    if not FIRST_PYTHON <= version <= LAST_PYTHON:
        return "this is Python %d.%d (%s); say which one to use: make PYTHON=python3.12 setup" % (version[0], version[1], sys.executable)
    if bool(sysconfig.get_config_var("Py_GIL_DISABLED")) if has_threads is None else has_threads:
        return "this Python is built without its global lock, and packages are not; say which one to use: make PYTHON=python3.12 setup"
    if not libc:
        return "this system has another C library than glibc (musl, as on Alpine?); use Debian, Ubuntu, Fedora or a container of them"
    if libc < OLDEST_GLIBC:
        return "this system's glibc is %d.%d; use a newer system, or a container of one" % libc
    if not (has_modules("venv", "ensurepip") if has_venv is None else has_venv):
        return "this Python cannot make virtual environments; install its package for that: apt-get install python%d.%d-venv" % version
    return None


def read_libc():
    """Return the version of glibc; empty with another C library."""
    try:
        name, _, number = os.confstr("CS_GNU_LIBC_VERSION").partition(" ")
        return tuple(int(part) for part in number.split(".")[:2]) if name == "glibc" else ()
    except (AttributeError, ValueError, OSError):
        return ()


def has_modules(*names):
    """Say whether modules of the standard library are there: some systems leave them out."""
    try:
        for name in names:
            __import__(name)
    except ImportError:
        return False
    return True


def main():
    """Print nothing and return 0 if the project can be set up here, else one line and 2."""
    refusal = find_refusal()
    if refusal is not None:
        sys.stderr.write("error: %s, but %s.\n" % (NEEDED, refusal))
    return 0 if refusal is None else 2


if __name__ == "__main__":
    sys.exit(main())
