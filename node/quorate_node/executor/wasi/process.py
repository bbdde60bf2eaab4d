"""Host calls on the process: arguments, environment, clocks, randomness, polling, exit; and sockets: there are none."""

from __future__ import annotations

from collections.abc import Sequence

from quorate_node.executor.wasi.abi import (
    CLOCK_ABSTIME,
    CLOCK_REALTIME,
    CLOCK_THREAD,
    EPOCH_NS,
    EVENT,
    EVENT_CLOCK,
    EVENT_FD_READ,
    EVENT_FD_WRITE,
    SUBSCRIPTION,
    Errno,
    Right,
    WasiError,
)
from quorate_node.executor.wasi.host import CLOCK_STEP_NS, FUEL_PER_RANDOM_BYTE, Host, ProgramExit
from quorate_node.executor.wasi.tree import File

MAX_SUBSCRIPTIONS = 4096


def _put_strings(host: Host, strings: Sequence[bytes], pointers: int, buffer: int) -> None:
    host.charge_steps(len(strings))
    host.charge_bytes(sum(map(len, strings)))
    for index, text in enumerate(strings):
        host.memory.write_u32(pointers + 4 * index, buffer)
        host.memory.write(buffer, text + b"\0")
        buffer += len(text) + 1


def _put_sizes(host: Host, strings: Sequence[bytes], count: int, size: int) -> None:
    host.charge_steps(len(strings))
    host.memory.write_u32(count, len(strings))
    host.memory.write_u32(size, sum(len(text) + 1 for text in strings))


def args_get(host: Host, pointers: int, buffer: int) -> None:
    """Copy the arguments."""
    _put_strings(host, host.args, pointers, buffer)


def args_sizes_get(host: Host, count: int, size: int) -> None:
    """Number and total size of the arguments."""
    _put_sizes(host, host.args, count, size)


def environ_get(host: Host, pointers: int, buffer: int) -> None:
    """Copy the environment."""
    _put_strings(host, host.env, pointers, buffer)


def environ_sizes_get(host: Host, count: int, size: int) -> None:
    """Number and total size of the variables."""
    _put_sizes(host, host.env, count, size)


def clock_res_get(host: Host, clock: int, result: int) -> None:
    """Resolution of the virtual clock, the same for all four."""
    if clock > CLOCK_THREAD:
        raise WasiError(Errno.INVAL)
    host.memory.write_u64(result, CLOCK_STEP_NS)


def clock_time_get(host: Host, clock: int, precision: int, result: int) -> None:
    """The virtual time: real time from a fixed epoch, the other clocks from zero."""
    if clock > CLOCK_THREAD:
        raise WasiError(Errno.INVAL)
    base = EPOCH_NS if clock == CLOCK_REALTIME else 0
    host.memory.write_u64(result, (base + host.now()) & 0xFFFF_FFFF_FFFF_FFFF)


def random_get(host: Host, buffer: int, length: int) -> None:
    """The next bytes of the task's random stream."""
    host.spend(length * FUEL_PER_RANDOM_BYTE)
    host.random.fill(host.memory.span(buffer, length))


def proc_exit(host: Host, code: int) -> None:
    """End the program."""
    raise ProgramExit(code)


def proc_raise(host: Host, signal: int) -> None:
    """There are no signals."""
    raise WasiError(Errno.NOSYS)


def sched_yield(host: Host) -> None:
    """Nobody else is there to run."""


Subscription = tuple[int, int, int, int, int, int]  # userdata, tag, clock id or fd, timeout, precision, flags
Event = tuple[int, int, int, int, int]  # userdata, errno, type, bytes ready, flags


def poll_oneoff(host: Host, subscriptions: int, events: int, count: int, result: int) -> None:
    """Wait on the virtual clock. Files and streams are always ready: a sleep happens only where none is asked for."""
    if count == 0:
        raise WasiError(Errno.INVAL)
    if count > MAX_SUBSCRIPTIONS:
        raise WasiError(Errno.INVAL)
    host.charge_steps(count)
    wanted: list[Subscription] = list(
        SUBSCRIPTION.iter_unpack(host.memory.read(subscriptions, count * SUBSCRIPTION.size))
    )
    deadlines = [_deadline(host, wish) if wish[1] == EVENT_CLOCK else None for wish in wanted]
    clocks = [deadline for deadline in deadlines if deadline is not None]
    if len(clocks) == count:
        host.elapsed_ns = max(host.elapsed_ns, min(clocks))
    ready: list[Event] = []
    for wish, deadline in zip(wanted, deadlines, strict=True):
        if deadline is None:
            ready.append(_fd_event(host, wish))
        elif deadline <= host.elapsed_ns:
            invalid = wish[2] > CLOCK_THREAD
            ready.append((wish[0], Errno.INVAL if invalid else Errno.SUCCESS, EVENT_CLOCK, 0, 0))
    host.now()
    host.memory.write(events, b"".join(EVENT.pack(*event) for event in ready))
    host.memory.write_u32(result, len(ready))


def _deadline(host: Host, wish: Subscription) -> int:
    """Nanoseconds of the virtual clock at which a clock subscription is due; at once if its clock is unknown."""
    _, _, clock, timeout, _, flags = wish
    if clock > CLOCK_THREAD:
        return 0
    if not flags & CLOCK_ABSTIME:
        # Beyond two centuries a sleep is for ever; the clock must stay within 64 bits.
        return min(host.elapsed_ns + timeout, 1 << 62)
    return min(max(0, timeout - (EPOCH_NS if clock == CLOCK_REALTIME else 0)), 1 << 62)


def _fd_event(host: Host, wish: Subscription) -> Event:
    userdata, tag, number = wish[:3]
    if tag not in (EVENT_FD_READ, EVENT_FD_WRITE):
        raise WasiError(Errno.INVAL)
    try:
        descriptor = host.fds[number]
        descriptor.require(Right.POLL_FD_READWRITE | (Right.FD_READ if tag == EVENT_FD_READ else Right.FD_WRITE))
    except WasiError as error:
        return (userdata, error.errno, tag, 0, 0)
    size = descriptor.node.size - descriptor.offset if isinstance(descriptor.node, File) else 0
    return (userdata, Errno.SUCCESS, tag, max(0, size) if tag == EVENT_FD_READ else 0, 0)


def _refuse_socket(host: Host, number: int) -> None:
    _ = host.fds[number]
    raise WasiError(Errno.NOTSOCK)


def sock_accept(host: Host, number: int, flags: int, result: int) -> None:
    """No descriptor is a socket."""
    _refuse_socket(host, number)


def sock_recv(host: Host, number: int, iovecs: int, count: int, flags: int, size: int, out_flags: int) -> None:
    """No descriptor is a socket."""
    _refuse_socket(host, number)


def sock_send(host: Host, number: int, iovecs: int, count: int, flags: int, size: int) -> None:
    """No descriptor is a socket."""
    _refuse_socket(host, number)


def sock_shutdown(host: Host, number: int, how: int) -> None:
    """No descriptor is a socket."""
    _refuse_socket(host, number)
