"""WASI preview 1 over memory: nothing of the host is reachable, and nothing that a program sees depends on the host.

    abi          numbers and layouts of the specification
    memory       the guest's memory, every access bounds-checked
    tree         files, directories and links in memory, under one quota; path resolution
    descriptors  open files and their rights
    host         one task's state: descriptors, virtual clock, random stream, fuel for host calls
    process, files, paths   the 46 functions, by what they work on
    callbacks    Python functions as a linker's imports
    linking      puts them into a wasmtime linker

What the specification leaves open is fixed: entries in bytewise order, inodes by a counter, times of 2020-01-01 unless
set, clocks that advance by a fixed step when read or slept on, and random bytes from the task's id.
"""
