"""Host calls on paths. Each path is relative to a directory's descriptor and cannot leave that directory."""

from __future__ import annotations

from quorate_node.executor.wasi.abi import (
    DIRECTORY_RIGHTS,
    FD_FLAGS,
    FILE_RIGHTS,
    O_CREAT,
    O_DIRECTORY,
    O_EXCL,
    O_FLAGS,
    O_TRUNC,
    SYMLINK_FOLLOW,
    Errno,
    Right,
    WasiError,
)
from quorate_node.executor.wasi.descriptors import READ_WRITE, Descriptor
from quorate_node.executor.wasi.files import pack_stat, set_times
from quorate_node.executor.wasi.host import Host
from quorate_node.executor.wasi.tree import Directory, File, Node, Place, Symlink, check_path

SIZE_RIGHTS = int(Right.FD_ALLOCATE | Right.FD_FILESTAT_SET_SIZE)


def _check_lookup(flags: int) -> bool:
    if flags & ~SYMLINK_FOLLOW:
        raise WasiError(Errno.INVAL)
    return bool(flags & SYMLINK_FOLLOW)


def path_create_directory(host: Host, number: int, path: int, length: int) -> None:
    """mkdir."""
    directory = host.fds[number].directory(Right.PATH_CREATE_DIRECTORY)
    place = host.locate_entry(directory, path, length)
    if place.node is not None:
        raise WasiError(Errno.EXIST)
    place.slot.attach(place.name, Directory(host.usage))


def path_filestat_get(host: Host, number: int, flags: int, path: int, length: int, result: int) -> None:
    """stat, or lstat without SYMLINK_FOLLOW."""
    follow = _check_lookup(flags)
    directory = host.fds[number].directory(Right.PATH_FILESTAT_GET)
    host.memory.write(result, pack_stat(host.locate(directory, path, length, follow=follow).found))


def path_filestat_set_times(
    host: Host, number: int, flags: int, path: int, length: int, atim: int, mtim: int, which: int
) -> None:
    """utimens."""
    follow = _check_lookup(flags)
    directory = host.fds[number].directory(Right.PATH_FILESTAT_SET_TIMES)
    set_times(host, host.locate(directory, path, length, follow=follow).found, atim, mtim, which)


def path_open(
    host: Host,
    number: int,
    lookup: int,
    path: int,
    length: int,
    oflags: int,
    rights: int,
    inheriting: int,
    flags: int,
    result: int,
) -> None:
    """Open, and create where asked for. What reads or changes content is chosen among rights, the rest inherited."""
    follow = _check_lookup(lookup)
    if oflags & ~O_FLAGS or flags & ~FD_FLAGS or (oflags & O_DIRECTORY and oflags & (O_CREAT | O_TRUNC)):
        raise WasiError(Errno.INVAL)
    base = host.fds[number]
    directory = base.directory(_rights_to_open(oflags))
    place = host.locate(directory, path, length, follow=follow and not oflags & O_EXCL)
    node = _create(host, place) if place.node is None and oflags & O_CREAT else _existing(place, oflags)
    opened = _descriptor(base, node, rights, flags)
    if isinstance(node, File) and (opened.rights & Right.FD_WRITE or oflags & O_TRUNC) and not node.is_writable:
        raise WasiError(Errno.ROFS)
    if isinstance(node, Directory) and (rights & Right.FD_WRITE or oflags & (O_CREAT | O_TRUNC)):
        raise WasiError(Errno.ISDIR)
    if isinstance(node, File) and oflags & O_TRUNC:
        node.resize(0)
    host.memory.write_u32(result, host.fds.add(opened))


def _rights_to_open(oflags: int) -> int:
    needed = Right.PATH_OPEN
    if oflags & O_CREAT:
        needed |= Right.PATH_CREATE_FILE
    if oflags & O_TRUNC:
        needed |= Right.PATH_FILESTAT_SET_SIZE
    return needed


def _create(host: Host, place: Place) -> Node:
    if place.wants_directory:
        raise WasiError(Errno.ISDIR)
    slot = place.slot
    node = File(host.usage)
    slot.attach(place.name, node)
    return node


def _existing(place: Place, oflags: int) -> Node:
    if place.node is not None and oflags & O_CREAT and oflags & O_EXCL:
        raise WasiError(Errno.EXIST)
    node = place.found
    if isinstance(node, Symlink):
        raise WasiError(Errno.LOOP)
    if oflags & O_DIRECTORY and not isinstance(node, Directory):
        raise WasiError(Errno.NOTDIR)
    return node


def _descriptor(base: Descriptor, node: Node, rights: int, flags: int) -> Descriptor:
    if isinstance(node, Directory):
        inherited = DIRECTORY_RIGHTS & (base.rights | base.inheriting)
        return Descriptor(node, rights=inherited, inheriting=base.inheriting, flags=flags)
    # Of all rights many programs ask for none but these, and use the others all the same.
    content = rights & (READ_WRITE | SIZE_RIGHTS) | (SIZE_RIGHTS if rights & Right.FD_WRITE else 0)
    chosen = (FILE_RIGHTS & ~(READ_WRITE | SIZE_RIGHTS)) | content
    return Descriptor(node, rights=chosen & base.inheriting, flags=flags)


def path_readlink(host: Host, number: int, path: int, length: int, buffer: int, size: int, result: int) -> None:
    """The link's target, cut to the buffer."""
    directory = host.fds[number].directory(Right.PATH_READLINK)
    node = host.locate(directory, path, length, follow=False).found
    if not isinstance(node, Symlink):
        raise WasiError(Errno.INVAL)
    target = node.target[:size]
    host.memory.write(buffer, target)
    host.memory.write_u32(result, len(target))


def path_symlink(host: Host, target: int, target_length: int, number: int, path: int, length: int) -> None:
    """Make a link; its target must be relative."""
    directory = host.fds[number].directory(Right.PATH_SYMLINK)
    text = host.read_path(target, target_length)
    check_path(text)
    place = host.locate_entry(directory, path, length)
    _check_vacant(place)
    place.slot.attach(place.name, Symlink(host.usage, text))


def _check_vacant(place: Place) -> None:
    """WasiError unless something other than a directory can get the place's name."""
    if place.node is not None:
        is_asked_for = isinstance(place.node, Directory) or not place.wants_directory
        raise WasiError(Errno.EXIST if is_asked_for else Errno.NOTDIR)
    if place.wants_directory:
        raise WasiError(Errno.NOENT)


def path_remove_directory(host: Host, number: int, path: int, length: int) -> None:
    """rmdir."""
    directory = host.fds[number].directory(Right.PATH_REMOVE_DIRECTORY)
    place = host.locate_entry(directory, path, length)
    node, slot = place.found, place.slot
    if not isinstance(node, Directory):
        raise WasiError(Errno.NOTDIR)
    if node.entries:
        raise WasiError(Errno.NOTEMPTY)
    slot.drop(place.name)


def path_unlink_file(host: Host, number: int, path: int, length: int) -> None:
    """unlink."""
    directory = host.fds[number].directory(Right.PATH_UNLINK_FILE)
    place = host.locate_entry(directory, path, length)
    if isinstance(place.found, Directory):
        raise WasiError(Errno.ISDIR)
    place.slot.drop(place.name)


def path_link(
    host: Host, number: int, lookup: int, path: int, length: int, to: int, new_path: int, new_length: int
) -> None:
    """Hard link to a file or a symbolic link."""
    follow = _check_lookup(lookup)
    source = host.fds[number].directory(Right.PATH_LINK_SOURCE)
    target = host.fds[to].directory(Right.PATH_LINK_TARGET)
    node = host.locate(source, path, length, follow=follow).found
    place = host.locate_entry(target, new_path, new_length)
    if isinstance(node, Directory):
        raise WasiError(Errno.PERM)
    _check_vacant(place)
    slot = place.slot
    if not node.is_writable:
        raise WasiError(Errno.XDEV)
    host.usage.take(0, 1)
    node.links += 1
    slot.attach(place.name, node)


def path_rename(host: Host, number: int, path: int, length: int, to: int, new_path: int, new_length: int) -> None:
    """Rename, replacing a file or an empty directory."""
    source = host.fds[number].directory(Right.PATH_RENAME_SOURCE)
    target = host.fds[to].directory(Right.PATH_RENAME_TARGET)
    old = host.locate_entry(source, path, length)
    new = host.locate_entry(target, new_path, new_length)
    node, slot, new_slot = old.found, old.slot, new.slot
    if new.wants_directory and not isinstance(node, Directory):
        raise WasiError(Errno.NOTDIR)
    if new.node is node:
        return
    _check_ancestry(host, node, new_slot)
    if new.node is not None:
        _check_replaceable(node, new.node)
        new_slot.drop(new.name)
    slot.detach(old.name)
    new_slot.attach(new.name, node)


def _check_ancestry(host: Host, node: Node, slot: Directory) -> None:
    """WasiError INVAL if a directory would become its own descendant."""
    above: Directory | None = slot
    while above is not None:
        if above is node:
            raise WasiError(Errno.INVAL)
        host.charge_steps(1)
        above = above.parent


def _check_replaceable(node: Node, old: Node) -> None:
    if isinstance(node, Directory):
        if not isinstance(old, Directory):
            raise WasiError(Errno.NOTDIR)
        if old.entries:
            raise WasiError(Errno.NOTEMPTY)
    elif isinstance(old, Directory):
        raise WasiError(Errno.ISDIR)
