"""Run inside a machine: tries what a service must not do, each act in a process of its own; prints how it went.

Without arguments it tries all of ACTS; the acts of OWN_KERNEL, which touch the kernel's clock, modules and memory,
only where they are named: a container has its host's kernel.

The outcome of an act is `done`, the name of an errno or of the signal that ended it, or, for a look around, what
was seen. Only the standard library; copied into the machine as it is.
"""

from __future__ import annotations

import ctypes
import errno
import json
import mmap
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

# What the test puts into the machine.
OPEN_FOLDER = "/srv/open"  # everyone may write there
HOME = "/home/anna"  # everyone may read there
MARK = "/tmp/mark"
OWNED = "/srv/owned"  # by the user `daemon`
THIRTY_TWO = "/usr/local/bin/thirty-two"  # a program in the processor's 32-bit mode
SETUID = "/usr/local/bin/setuid-id"  # `id`, setuid root
MODULES = "/usr/lib/modules"
QUEUE = 0x706F  # the key of a message queue that the control makes
MODULE = f"{OPEN_FOLDER}/dummy.ko"
SHARED_MEMORY = "/dev/shm/left-behind"
SEGMENT = 0x706F  # the key of another, of System V's
KEY = b"planted"

STATE = Path(os.environ.get("STATE_DIRECTORY", "/nonexistent"))
CREDENTIALS = os.environ.get("CREDENTIALS_DIRECTORY")

MIB = 2**20

libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
NEW_NAMESPACES = {
    "mount": 0x00020000,
    "cgroup": 0x02000000,
    "uts": 0x04000000,
    "ipc": 0x08000000,
    "user": 0x10000000,
    "pid": 0x20000000,
    "net": 0x40000000,
}


def call(function: str, *arguments: object) -> int:
    """A function of the C library; raises OSError."""
    result: int = getattr(libc, function)(*arguments)
    if result == -1:
        raise OSError(ctypes.get_errno(), function)
    return result


def names(folder: str) -> list[str]:
    return sorted(entry.name for entry in Path(folder).iterdir())


def create(path: str | Path) -> None:
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT, 0o666))


def create_in_state() -> str:
    """The mode of a new file."""
    path = STATE / f"file-{os.getpid()}"
    create(path)
    return oct(path.stat().st_mode & 0o7777)


def make_setuid() -> None:
    path = STATE / f"setuid-{os.getpid()}"
    create(path)
    path.chmod(0o4700)


def write_and_execute() -> None:
    mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC).close()


def write_then_execute() -> None:
    page = libc.mmap(
        None, mmap.PAGESIZE, mmap.PROT_WRITE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, -1, ctypes.c_long(0)
    )
    call("mprotect", ctypes.c_void_p(page), mmap.PAGESIZE, mmap.PROT_EXEC)


def read_clock_discipline() -> None:
    """adjtimex(2) that changes nothing (modes = 0); the same call sets the clock."""
    call("adjtimex", ctypes.create_string_buffer(512))


def see_others() -> list[str]:
    """The processes of others."""
    mine = os.getuid()
    seen = [entry for entry in Path("/proc").iterdir() if entry.name.isdecimal()]
    return sorted(entry.name for entry in seen if entry.stat().st_uid != mine or entry.name == "1")


def status(field: str) -> str:
    """A field of this process's status in /proc."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return line.partition(":")[2].strip()
    raise KeyError(field)


def run_setuid() -> str:
    return subprocess.run([SETUID, "-u"], check=True, capture_output=True, text=True).stdout.strip()


def make_queue_once() -> None:
    """The control makes it; who has its own IPC does not find it."""
    call("msgget", QUEUE, 0o1666 if os.environ.get("MAKES_QUEUE") else 0)


def mount_and_unmount() -> None:
    call("mount", b"none", b"/mnt", b"tmpfs", 0, None)
    call("umount", b"/mnt")


def open_socket(family: int) -> None:
    socket.socket(family, socket.SOCK_RAW if family == socket.AF_PACKET else socket.SOCK_DGRAM).close()


def credential_modes() -> dict[str, str]:
    """Of each credential: its mode, and whether it can be read."""
    files = sorted(Path(CREDENTIALS).iterdir()) if CREDENTIALS else []
    return {file.name: oct(file.stat().st_mode & 0o007) + (" read" if file.read_bytes() else "") for file in files}


ACTS: dict[str, Callable[[], object]] = {
    "user": os.getuid,
    "groups": lambda: sorted({os.getgid(), *os.getgroups()}),
    "capabilities": lambda: [status("CapBnd"), status("CapPrm"), status("CapAmb")],
    "new privileges": lambda: status("NoNewPrivs"),
    "run setuid": run_setuid,
    "write state": create_in_state,
    "state mode": lambda: oct(STATE.stat().st_mode & 0o7777),
    "write elsewhere": lambda: create(f"{OPEN_FOLDER}/{os.getpid()}"),
    "write own program": lambda: os.utime("/opt/poller/bin/poller"),
    "write configuration": lambda: os.utime("/etc/poller/poller.toml"),
    "read secrets": lambda: names("/etc/poller/secrets"),
    "credentials": credential_modes,
    "read home": lambda: names(HOME),
    "read tmp of others": lambda: Path(MARK).stat().st_size,
    "see others": see_others,
    "read memory of machine": lambda: Path("/proc/meminfo").stat().st_mode,
    "write kernel tunable": lambda: os.close(os.open("/proc/sys/net/ipv4/ip_forward", os.O_WRONLY)),
    "write sys": lambda: create("/sys/fs/file"),
    "make cgroup": lambda: control_group().mkdir(),
    "read modules": lambda: names(MODULES),
    "load module": lambda: call("syscall", ctypes.c_long(175), None, 0, None),
    "read kernel log": lambda: call("klogctl", 10, None, 0),
    "open kmsg": lambda: os.close(os.open("/dev/kmsg", os.O_RDONLY)),
    "see console": lambda: Path("/dev/console").stat().st_mode,
    "make device": lambda: os.mknod(STATE / f"device-{os.getpid()}", 0o20600, os.makedev(1, 3)),
    "see users": lambda: Path(OWNED).stat().st_uid,
    "find queue": make_queue_once,
    "mount": mount_and_unmount,
    "chroot": lambda: os.chroot("/"),
    "set hostname": lambda: socket.sethostname(socket.gethostname()),
    "look at clock discipline": read_clock_discipline,
    "become realtime": lambda: os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1)),
    "change priority": lambda: os.setpriority(os.PRIO_PROCESS, 0, 1),
    "choose processors": lambda: os.sched_setaffinity(0, os.sched_getaffinity(0)),
    "trace": lambda: call("ptrace", 0, 0, None, None),
    "change personality": lambda: call("personality", ctypes.c_ulong(0x0040000)),
    "run 32-bit": lambda: subprocess.run([THIRTY_TWO], check=True).returncode,
    "make setuid": make_setuid,
    "write and execute": write_and_execute,
    "write then execute": write_then_execute,
    "core limit": lambda: resource.getrlimit(resource.RLIMIT_CORE),
    "file limit": lambda: resource.getrlimit(resource.RLIMIT_NOFILE)[0],
    **{f"namespace {name}": partial(call, "unshare", flag) for name, flag in NEW_NAMESPACES.items()},
    "socket unix": lambda: open_socket(socket.AF_UNIX),
    "socket inet": lambda: open_socket(socket.AF_INET),
    "socket inet6": lambda: open_socket(socket.AF_INET6),
    "socket packet": lambda: open_socket(socket.AF_PACKET),
    "socket netlink": lambda: open_socket(socket.AF_NETLINK),
    "socket alg": lambda: socket.socket(socket.AF_ALG, socket.SOCK_SEQPACKET).close(),
    "socket vsock": lambda: socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM).close(),
}


def set_clock() -> None:
    """To the time that it is."""
    time.clock_settime(time.CLOCK_REALTIME, time.time())


def load_module() -> None:
    """And unload it."""
    module = os.open(MODULE, os.O_RDONLY)
    call("syscall", ctypes.c_long(313), ctypes.c_int(module), b"", 0)  # finit_module
    call("syscall", ctypes.c_long(176), b"dummy", os.O_NONBLOCK)  # delete_module


def read_kernel_log() -> None:
    """syslog(2), SYSLOG_ACTION_READ_ALL."""
    call("syscall", ctypes.c_long(103), 3, ctypes.create_string_buffer(4096), 4096)


def own_group(field: str) -> int:
    group = Path("/proc/self/cgroup").read_text().strip().partition("::")[2]
    return int(Path(f"/sys/fs/cgroup{group}/{field}").read_text())


def take_memory() -> None:
    """544 MiB, each page of it."""
    with mmap.mmap(-1, 544 * MIB) as memory:
        for at in range(0, len(memory), MIB):
            memory[at : at + MIB] = b"x" * MIB


def read_long_file() -> int:
    """The memory in use, in MiB, after a file of 320 MiB was read, which the kernel keeps as long as it may."""
    path = STATE / f"long-{os.getpid()}"
    with path.open("w+b", buffering=0) as file:
        file.truncate(320 * MIB)
        while file.read(MIB):
            pass
        used = own_group("memory.current") // MIB
    path.unlink()
    return used


def start_many() -> list[object]:
    """How many processes of 150 can be started, and why no more."""
    started: list[int] = []
    told = "done"
    try:
        while len(started) < 150:
            child = os.fork()
            if child == 0:
                signal.pause()
                os._exit(0)
            started.append(child)
    except OSError as error:
        told = errno.errorcode[error.errno or 0]
    for child in started:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    return [len(started), told]


def leave_shared_memory() -> None:
    """POSIX shared memory, and a segment of System V's."""
    create(SHARED_MEMORY)
    call("shmget", SEGMENT, mmap.PAGESIZE, 0o1600)  # IPC_CREAT


def plant_key() -> None:
    """Into the user's keyring (KEY_SPEC_USER_KEYRING)."""
    call("syscall", ctypes.c_long(248), b"user", KEY, b"x", ctypes.c_size_t(1), ctypes.c_int(-4))  # add_key


def find_key() -> None:
    """From the session's keyring (KEY_SPEC_SESSION_KEYRING), by KEYCTL_SEARCH."""
    call("syscall", ctypes.c_long(250), 10, ctypes.c_int(-3), b"user", KEY, 0)  # keyctl


# What only a machine with its own kernel can show.
OWN_KERNEL: dict[str, Callable[[], object]] = {
    "set clock": set_clock,
    "look at clock discipline": read_clock_discipline,
    "load a module": load_module,
    "read kernel log": read_kernel_log,
    "open kmsg": ACTS["open kmsg"],
    "open tunable": ACTS["write kernel tunable"],
    "touch sys": lambda: os.utime("/sys/kernel/profiling"),
    "open disk": lambda: os.close(os.open("/dev/vda", os.O_RDONLY)),
    "socket alg": ACTS["socket alg"],
    "take memory": take_memory,
    "read long file": read_long_file,
    "start many": start_many,
    "leave shared memory": leave_shared_memory,
    "plant key": plant_key,
    "find key": find_key,
}


def control_group() -> Path:
    """A group below the root of the hierarchy."""
    at = "/sys/fs/cgroup/unified" if Path("/sys/fs/cgroup/unified").is_dir() else "/sys/fs/cgroup"
    return Path(at) / f"probe-{os.getpid()}"


def outcome(act: Callable[[], object]) -> object:
    """How it goes, in a process of its own."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            seen = act()
            told: object = "done" if seen is None or seen == 0 else seen
        except OSError as error:
            told = errno.errorcode.get(error.errno or 0, str(error))
        except subprocess.CalledProcessError as error:
            told = signal.Signals(-error.returncode).name if error.returncode < 0 else f"exit {error.returncode}"
        os.write(writing, json.dumps(told).encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        told = pipe.read()
    ended = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return json.loads(told) if told else signal.Signals(-ended).name


if __name__ == "__main__":
    chosen = {name: OWN_KERNEL[name] for name in sys.argv[1:]} or ACTS
    sys.stdout.write("probed " + json.dumps({name: outcome(act) for name, act in chosen.items()}) + "\n")
