"""Host calls on descriptors."""

from __future__ import annotations

from quorate_node.executor.wasi.abi import (
    DIRENT,
    EPOCH_NS,
    FD_APPEND,
    FD_FLAGS,
    FDSTAT,
    FILESTAT,
    PAIR,
    SET_ATIM,
    SET_ATIM_NOW,
    SET_MTIM,
    SET_MTIM_NOW,
    WHENCE_CUR,
    WHENCE_END,
    WHENCE_SET,
    Errno,
    Filetype,
    Right,
    WasiError,
)
from quorate_node.executor.wasi.descriptors import Descriptor
from quorate_node.executor.wasi.host import Host
from quorate_node.executor.wasi.tree import Directory, File, Node

MAX_OFFSET = (1 << 63) - 1
DEVICE = 1


def signed(value: int) -> int:
    """A 64-bit argument read as a signed number."""
    return value - (1 << 64) if value >> 63 else value


def fd_advise(host: Host, number: int, offset: int, length: int, advice: int) -> None:
    """Advice changes nothing, but must make sense."""
    host.fds[number].file(Right.FD_ADVISE)
    if advice > 5 or offset > MAX_OFFSET or length > MAX_OFFSET:
        raise WasiError(Errno.INVAL)


def fd_allocate(host: Host, number: int, offset: int, length: int) -> None:
    """Make a file reach to `offset + length`; it is never cut."""
    fd = host.fds[number]
    if isinstance(fd.node, Directory):
        raise WasiError(Errno.BADF)
    file = _seekable(fd).file(Right.FD_ALLOCATE)
    if length == 0 or offset > MAX_OFFSET or length > MAX_OFFSET:
        raise WasiError(Errno.INVAL)
    if offset + length > MAX_OFFSET:
        raise WasiError(Errno.FBIG)
    _resize(host, file, max(file.size, offset + length))


def fd_close(host: Host, number: int) -> None:
    """Close a descriptor; preopened ones may be closed too."""
    host.fds.close(number)


def fd_datasync(host: Host, number: int) -> None:
    """There is nothing to flush."""
    host.fds[number].require(Right.FD_DATASYNC)


def fd_sync(host: Host, number: int) -> None:
    """There is nothing to flush."""
    host.fds[number].require(Right.FD_SYNC)


def fd_fdstat_get(host: Host, number: int, result: int) -> None:
    """Kind, flags and rights of a descriptor."""
    fd = host.fds[number]
    host.memory.write(result, FDSTAT.pack(fd.filetype, fd.flags, fd.rights, fd.inheriting))


def fd_fdstat_set_flags(host: Host, number: int, flags: int) -> None:
    """Append is honoured, the others are kept and have nothing to change."""
    fd = host.fds[number]
    if flags & ~FD_FLAGS:
        raise WasiError(Errno.INVAL)
    fd.require(Right.FD_FDSTAT_SET_FLAGS)
    fd.flags = flags


def fd_fdstat_set_rights(host: Host, number: int, rights: int, inheriting: int) -> None:
    """Rights may be dropped, never gained."""
    fd = host.fds[number]
    if rights & ~fd.rights or inheriting & ~fd.inheriting:
        raise WasiError(Errno.NOTCAPABLE)
    fd.rights, fd.inheriting = rights, inheriting


def pack_stat(node: Node | None) -> bytes:
    """A filestat record; all zeros but the kind for a stream. The time of the last change of status is never set."""
    if node is None:
        return FILESTAT.pack(DEVICE, 0, Filetype.UNKNOWN, 1, 0, 0, 0, 0)
    return FILESTAT.pack(
        DEVICE, node.inode, node.filetype, max(node.links, 0), node.size, node.atim, node.mtim, EPOCH_NS
    )


def fd_filestat_get(host: Host, number: int, result: int) -> None:
    """What the descriptor leads to."""
    fd = host.fds[number]
    fd.require(Right.FD_FILESTAT_GET)
    host.memory.write(result, pack_stat(fd.node))


def fd_filestat_set_size(host: Host, number: int, size: int) -> None:
    """Cut or extend a file."""
    file = host.fds[number].file(Right.FD_FILESTAT_SET_SIZE)
    if size > MAX_OFFSET:
        raise WasiError(Errno.INVAL)
    _resize(host, file, size)


def _resize(host: Host, file: File, size: int) -> None:
    """Change a file's size, paid for by the zeros that it adds; what is over the limit ends the task unpaid."""
    host.charge_bytes(max(0, size - file.size) if size <= host.usage.max_bytes else 0)
    file.resize(size)


def set_times(host: Host, node: Node | None, atim: int, mtim: int, flags: int) -> None:
    """Set a node's times; `now` is the virtual clock's."""
    both_atim, both_mtim = SET_ATIM | SET_ATIM_NOW, SET_MTIM | SET_MTIM_NOW
    if flags & ~(both_atim | both_mtim) or flags & both_atim == both_atim or flags & both_mtim == both_mtim:
        raise WasiError(Errno.INVAL)
    if node is None or not node.is_writable:
        raise WasiError(Errno.BADF if node is None else Errno.ROFS)
    now = EPOCH_NS + host.elapsed_ns
    if flags & both_atim:
        node.atim = atim if flags & SET_ATIM else now
    if flags & both_mtim:
        node.mtim = mtim if flags & SET_MTIM else now


def fd_filestat_set_times(host: Host, number: int, atim: int, mtim: int, flags: int) -> None:
    """Set the times of what the descriptor leads to."""
    fd = host.fds[number]
    fd.require(Right.FD_FILESTAT_SET_TIMES)
    set_times(host, fd.node, atim, mtim, flags)


def _read_at(host: Host, file: File, iovecs: int, count: int, offset: int) -> int:
    host.charge_steps(count)
    data, targets, at = file.data, host.memory.iovecs(iovecs, count), offset
    size = min(sum(map(len, targets)), max(0, len(data) - offset))
    host.charge_bytes(size)
    for target in targets:
        chunk = data[at : at + len(target)]
        target[: len(chunk)] = chunk
        at += len(chunk)
        if len(chunk) < len(target):
            break
    return size


def fd_read(host: Host, number: int, iovecs: int, count: int, result: int) -> None:
    """Read at the descriptor's position; standard input is at its end."""
    fd = host.fds[number]
    if fd.node is None:
        fd.require(Right.FD_READ)
        host.charge_steps(count)
        host.memory.iovecs(iovecs, count)
        size = 0
    else:
        size = _read_at(host, fd.file(Right.FD_READ), iovecs, count, fd.offset)
    fd.offset += size
    host.memory.write_u32(result, size)


def fd_pread(host: Host, number: int, iovecs: int, count: int, offset: int, result: int) -> None:
    """Read at `offset`."""
    fd = _seekable(host.fds[number])
    file = fd.file(Right.FD_READ)
    if offset > MAX_OFFSET:
        raise WasiError(Errno.INVAL)
    host.memory.write_u32(result, _read_at(host, file, iovecs, count, offset))


def _write_at(host: Host, file: File, iovecs: int, count: int, offset: int) -> int:
    host.charge_steps(count)
    start = offset
    for chunk in host.memory.iovecs(iovecs, count):
        if offset + len(chunk) > MAX_OFFSET:
            raise WasiError(Errno.FBIG)
        host.charge_bytes(len(chunk))
        file.write(offset, chunk)
        offset += len(chunk)
    return offset - start


def _write_stream(host: Host, fd: Descriptor, iovecs: int, count: int) -> int:
    fd.require(Right.FD_WRITE)
    host.charge_steps(count)
    total = 0
    for chunk in host.memory.iovecs(iovecs, count):
        host.charge_bytes(len(chunk))
        if fd.stream is not None:
            fd.stream.write(chunk)
        total += len(chunk)
    return total


def fd_write(host: Host, number: int, iovecs: int, count: int, result: int) -> None:
    """Write at the descriptor's position, or at the end in append mode."""
    fd = host.fds[number]
    if fd.node is None:
        host.memory.write_u32(result, _write_stream(host, fd, iovecs, count) & 0xFFFF_FFFF)
        return
    file = fd.file(Right.FD_WRITE)
    start = file.size if fd.flags & FD_APPEND else fd.offset
    size = _write_at(host, file, iovecs, count, start)
    fd.offset = start + size
    host.memory.write_u32(result, size)


def fd_pwrite(host: Host, number: int, iovecs: int, count: int, offset: int, result: int) -> None:
    """Write at `offset`, in append mode too."""
    fd = _seekable(host.fds[number])
    file = fd.file(Right.FD_WRITE)
    if offset > MAX_OFFSET:
        raise WasiError(Errno.INVAL)
    host.memory.write_u32(result, _write_at(host, file, iovecs, count, offset))


def _seekable(fd: Descriptor) -> Descriptor:
    if fd.node is None:
        raise WasiError(Errno.SPIPE)
    return fd


def fd_seek(host: Host, number: int, offset: int, whence: int, result: int) -> None:
    """Move the position, beyond the end too."""
    fd = _seekable(host.fds[number])
    if not isinstance(fd.node, File):
        raise WasiError(Errno.BADF)
    fd.require(Right.FD_SEEK)
    if whence not in (WHENCE_SET, WHENCE_CUR, WHENCE_END):
        raise WasiError(Errno.INVAL)
    base = {WHENCE_SET: 0, WHENCE_CUR: fd.offset, WHENCE_END: fd.node.size}[whence]
    target = base + signed(offset)
    if not 0 <= target <= MAX_OFFSET:
        raise WasiError(Errno.INVAL)
    fd.offset = target
    host.memory.write_u64(result, target)


def fd_tell(host: Host, number: int, result: int) -> None:
    """The position."""
    fd = _seekable(host.fds[number])
    if not isinstance(fd.node, File):
        raise WasiError(Errno.BADF)
    fd.require(Right.FD_TELL)
    host.memory.write_u64(result, fd.offset)


def fd_prestat_get(host: Host, number: int, result: int) -> None:
    """Length of a preopened directory's name; BADF for others."""
    fd = host.fds[number]
    if fd.preopen is None:
        raise WasiError(Errno.BADF)
    host.memory.write(result, PAIR.pack(0, len(fd.preopen)))


def fd_prestat_dir_name(host: Host, number: int, pointer: int, length: int) -> None:
    """Name of a preopened directory."""
    fd = host.fds[number]
    if fd.preopen is None:
        raise WasiError(Errno.BADF)
    if length < len(fd.preopen):
        raise WasiError(Errno.NAMETOOLONG)
    host.memory.write(pointer, fd.preopen)


def _listing(host: Host, fd: Descriptor, directory: Directory) -> list[tuple[bytes, Node]]:
    """`.`, `..` and the entries in bytewise order. `..` shows no inode but its own: what lies above is out of reach."""
    host.charge_steps(len(directory.entries))
    entries = sorted(directory.entries.items())
    above = directory if fd.preopen is not None or directory.parent is None else directory.parent
    return [(b".", directory), (b"..", above), *entries]


def fd_readdir(host: Host, number: int, buffer: int, length: int, cookie: int, result: int) -> None:
    """Entries from `cookie` on, as many bytes as fit; a full buffer says that there are more."""
    fd = host.fds[number]
    directory = fd.directory(Right.FD_READDIR)
    if cookie == 0 or fd.listing is None:
        fd.listing = _listing(host, fd, directory)
    target, used = host.memory.span(buffer, length), 0
    for index in range(min(cookie, len(fd.listing)), len(fd.listing)):
        name, node = fd.listing[index]
        record = (DIRENT.pack(index + 1, node.inode, len(name), node.filetype) + name)[: length - used]
        target[used : used + len(record)] = record
        used += len(record)
        host.charge_steps(1)
        if used == length:
            break
    host.memory.write_u32(result, used)


def fd_renumber(host: Host, number: int, to: int) -> None:
    """Move a descriptor onto an open one, which is closed."""
    host.fds.renumber(number, to)
