"""A process gives up what it does not need before it reads a file from outside. Linux; elsewhere only the limits hold.

The reading itself runs nothing that a file asks for (`inert.py`). This is for the mistakes in it, and in PyTorch's and
Ultralytics' code that then builds the net: no other program, no other process, no network, bounded memory and time.
"""

from __future__ import annotations

import contextlib
import ctypes
import math
import os
import platform
import resource
import struct
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

_PR_SET_NO_NEW_PRIVS: Final = 38
_PR_SET_SECCOMP: Final = 22
_SECCOMP_MODE_FILTER: Final = 2
_PR_SET_DUMPABLE: Final = 4
_CLONE_THREAD: Final = 0x00010000
_CLONE_NEWUSER: Final = 0x10000000
_CLONE_NEWNET: Final = 0x40000000

# Numbers of the calls on each architecture, and its mark (AUDIT_ARCH_*).
_FORBIDDEN: Final = {
    "x86_64": (
        0xC000003E,
        {
            "execve": 59, "execveat": 322, "fork": 57, "vfork": 58, "socket": 41, "socketpair": 53, "connect": 42,
            "ptrace": 101, "mount": 165, "unshare": 272, "setns": 308, "bpf": 321, "keyctl": 250, "add_key": 248,
            "process_vm_readv": 310, "process_vm_writev": 311, "kill": 62, "tkill": 200, "io_uring_setup": 425,
            "pidfd_open": 434, "perf_event_open": 298, "userfaultfd": 323, "memfd_create": 319, "chmod": 90,
            "symlink": 88, "symlinkat": 266, "link": 86, "linkat": 265,
        },
        56,  # clone
        435,  # clone3
    ),
    "aarch64": (
        0xC00000B7,
        {
            "execve": 221, "execveat": 281, "socket": 198, "socketpair": 199, "connect": 203, "ptrace": 117, "mount": 40,
            "unshare": 97, "setns": 268, "bpf": 280, "keyctl": 219, "add_key": 217, "process_vm_readv": 270,
            "process_vm_writev": 271, "kill": 129, "tkill": 130, "io_uring_setup": 425, "pidfd_open": 434,
            "perf_event_open": 241, "userfaultfd": 282, "memfd_create": 279, "symlinkat": 36, "linkat": 37,
        },
        220,
        435,
    ),
}  # fmt: skip
_ALLOW: Final = 0x7FFF0000
_KILL: Final = 0x80000000
_EPERM: Final = 0x00050000 | 1
_ENOSYS: Final = 0x00050000 | 38


def leave_network() -> bool:
    """An own network without any device, where the kernel lets a plain user have one. Before the first thread."""
    libc = ctypes.CDLL(None, use_errno=True)
    user, group = os.getuid(), os.getgid()
    if libc.unshare(_CLONE_NEWNET) == 0:
        return True
    if libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNET) != 0:
        return False
    try:
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
        Path("/proc/self/gid_map").write_text(f"{group} {group} 1")
    except OSError:
        pass  # it stays nobody in its own namespace; files are still judged by who it is outside
    return True


def limit(*, memory_bytes: int, seconds: int, file_bytes: int) -> None:
    """Bounds beyond what the libraries have reserved already."""
    reserved = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    for kind, most in (
        (resource.RLIMIT_AS, reserved + memory_bytes),
        (resource.RLIMIT_CPU, seconds),
        (resource.RLIMIT_FSIZE, file_bytes),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, 256),
    ):
        _soft, hard = resource.getrlimit(kind)
        allowed = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(kind, (allowed, allowed))


@contextlib.contextmanager
def processor_time(seconds: int) -> Iterator[None]:
    """The process ends (SIGXCPU) when what is done within takes more of it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_CPU)
    until = math.ceil(time.process_time()) + seconds
    known = [most for most in (soft, hard) if most != resource.RLIM_INFINITY]
    resource.setrlimit(resource.RLIMIT_CPU, (min([until, *known]), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_CPU, (soft, hard))


def forbid_programs() -> bool:
    """From now on no other program, process, socket or new privilege; False where the kernel has no filters."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        return False
    known = _FORBIDDEN.get(platform.machine())
    if known is None:
        return False
    mark, calls, clone, clone3 = known
    rules = _program(mark, sorted(calls.values()), clone, clone3)
    content = ctypes.create_string_buffer(b"".join(rules), 8 * len(rules))
    program = struct.pack("HxxxxxxQ", len(rules), ctypes.addressof(content))
    return bool(libc.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.c_char_p(program), 0, 0) == 0)


def _program(mark: int, calls: Sequence[int], clone: int, clone3: int) -> list[bytes]:
    """A filter in BPF. `clone3` is said not to exist, so that threads are begun by `clone`, whose flags can be read."""
    load, equal, at_least, both, end = 0x20, 0x15, 0x35, 0x45, 0x06

    def rule(code: int, value: int, yes: int = 0, no: int = 0) -> bytes:
        return struct.pack("HBBI", code, yes, no, value)

    rules = [
        rule(load, 4),  # the architecture
        rule(equal, mark, 1, 0),
        rule(end, _KILL),
        rule(load, 0),  # the number of the call
        rule(at_least, 0x40000000, 0, 1),  # the other numbering of x86
        rule(end, _KILL),
        rule(equal, clone3, 0, 1),
        rule(end, _ENOSYS),
    ]
    for call in calls:
        rules += [rule(equal, call, 0, 1), rule(end, _EPERM)]
    return [
        *rules,
        rule(equal, clone, 0, 3),
        rule(load, 16),  # its flags
        rule(both, _CLONE_THREAD, 1, 0),
        rule(end, _EPERM),
        rule(end, _ALLOW),
    ]
