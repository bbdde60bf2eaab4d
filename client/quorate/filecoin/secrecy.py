"""Keep a key in its process: no core dump, and no debugger of the same user."""

from __future__ import annotations

import contextlib
import ctypes
import resource
import sys

_PR_SET_DUMPABLE = 4


def forbid_dumps() -> None:
    """From now on this process leaves no core dump, and on Linux none but root can read its memory or attach to it.

    Its children inherit the first; those that run another program do not inherit the second, and hold no key.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):  # a libc without prctl: the limit above still holds
            ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
