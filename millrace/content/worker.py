"""The process that decodes: gets two open files and limits, answers with what it found.

    python -m millrace.content.worker SOCKET_FD PARENT_PID MEMORY_BYTES FILE_BYTES

One message a job over a SEQPACKET socket: JSON of `Limits` with the descriptors of the source
and of an empty file. The answer is JSON as well: `found`, or `reason` and `message` of the
refusal, or `no_room` on the disk, or `bug`. The end of the socket ends the process. A file that
makes a decoder crash, or never come back, hurts nobody but this process: `cleaner` replaces it.
"""

import contextlib
import ctypes
import hashlib
import json
import os
import resource
import signal
import socket
import sys
from typing import Any, BinaryIO

from millrace.content.film import clean_film
from millrace.content.kind import HEAD_BYTES, Kind, kind_of
from millrace.content.limits import MEDIA_BROKEN, Limits
from millrace.content.picture import clean_picture
from millrace.errors import InvalidRequest

MESSAGE_BYTES_MAX = 16 * 1024
_OPEN_FILES_MAX = 64
_HASHED_AT_ONCE_BYTES = 1024 * 1024
_PR_SET_PDEATHSIG, _PR_SET_NO_NEW_PRIVS = 1, 38
_CLONE_NEWUSER, _CLONE_NEWNET = 0x10000000, 0x40000000


def main() -> None:
    descriptor, parent_pid, memory_bytes, file_bytes = map(int, sys.argv[1:5])
    _confine(parent_pid, memory_bytes, file_bytes)
    with socket.socket(fileno=descriptor) as jobs:
        while True:
            message, descriptors, _, _ = socket.recv_fds(jobs, MESSAGE_BYTES_MAX, 2)
            if not message:
                return
            with contextlib.ExitStack() as files:
                source = files.enter_context(os.fdopen(descriptors[0], "rb"))
                out = os.fdopen(descriptors[1], "w+b")
                files.callback(_close, out)
                answer = _answer(source, out, Limits(**json.loads(message)))
            jobs.send(json.dumps(answer).encode()[:MESSAGE_BYTES_MAX])


def _close(out: BinaryIO) -> None:
    """What could not be written before cannot be written now: the answer has said so."""
    with contextlib.suppress(OSError):
        out.close()


def _confine(parent_pid: int, memory_bytes: int, file_bytes: int) -> None:
    """Little memory, few files, no network where the kernel lets us, and an end with the parent."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent_pid:
        sys.exit(0)
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNET)
    # A Ctrl-C at the terminal reaches the whole group; the server decides when we end.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # The server may run before others (`grpc_realtime`, `grpc_nice`); its decoders are in a session
    # of their own, and have no more than all others.
    if os.sched_getscheduler(0) == os.SCHED_RR:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
    os.setsid()
    os.nice(max(-os.getpriority(os.PRIO_PROCESS, 0), 0))
    for limit, value in (
        (resource.RLIMIT_AS, memory_bytes),
        (resource.RLIMIT_FSIZE, file_bytes),
        (resource.RLIMIT_NOFILE, _OPEN_FILES_MAX),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(limit, (value, value))


def _answer(source: BinaryIO, out: BinaryIO, limits: Limits) -> dict[str, Any]:
    try:
        return {"found": _clean(source, out, limits)}
    except InvalidRequest as refusal:
        return {"reason": refusal.reason, "message": refusal.message}
    except MemoryError:
        return {"reason": MEDIA_BROKEN, "message": "the file needs more memory than a file may"}
    except OSError as error:
        # Decoders' own have become refusals: this one is of the file that was to be written.
        return {"no_room": str(error.strerror)}
    except Exception as error:  # noqa: BLE001 - the server says it, with its own trace
        return {"bug": repr(error)[:1_000]}


def _clean(source: BinaryIO, out: BinaryIO, limits: Limits) -> dict[str, Any]:
    source.seek(0)
    if kind_of(source.read(HEAD_BYTES)) is Kind.MP4:
        film = clean_film(source, out, limits)
        found = {
            "kind": Kind.MP4.value,
            "width": film.width,
            "height": film.height,
            "duration_ms": film.duration_ms,
        }
    else:
        source.seek(0)
        picture = clean_picture(source.read(limits.image_bytes_max + 1), limits)
        out.write(picture.data)
        out.flush()
        found = {
            "kind": picture.kind.value,
            "width": picture.width,
            "height": picture.height,
            "duration_ms": 0,
        }
    return {**found, **_measured(out)}


def _measured(out: BinaryIO) -> dict[str, Any]:
    digest = hashlib.sha256()
    size_bytes = 0
    out.seek(0)
    while piece := out.read(_HASHED_AT_ONCE_BYTES):
        digest.update(piece)
        size_bytes += len(piece)
    return {"size_bytes": size_bytes, "sha256": digest.hexdigest()}


if __name__ == "__main__":
    main()
