"""Python functions as imports of a wasmtime linker, by the C API's unchecked calls.

wasmtime's own `define_func` makes objects of the caller, of each parameter and of each type at every call, which takes
longer than most host calls do. These are given plain numbers.
"""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Callable
from functools import partial

import wasmtime
from wasmtime import _bindings as ffi

VALUE_BYTES = ctypes.sizeof(ffi.wasmtime_val_raw)
# A number lies in the first bytes of its value, little-endian on every host.
_FIELDS = {"i": f"I{VALUE_BYTES - 4}x", "I": f"Q{VALUE_BYTES - 8}x"}
_TYPES = {"i": wasmtime.ValType.i32, "I": wasmtime.ValType.i64}
_TRAP_MESSAGE = b"a host call failed"
# As the C API's, but for pointers that arrive as numbers: (data, caller, values, their count) -> trap or 0.
_Callback = ctypes.CFUNCTYPE(ctypes.c_size_t, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)
_NO_FINALIZER = ctypes.cast(0, ctypes.CFUNCTYPE(None, ctypes.c_void_p))


def define_function(
    linker: wasmtime.Linker, module: str, name: str, signature: tuple[str, str],
    call: Callable[..., int], fail: Callable[[BaseException], None],
) -> object:  # fmt: skip
    """Define `module.name`, by `signature`: letters of its parameters and of its result, of which there is at most one.

    `call(caller, *numbers)` gets the caller's address and the parameters as unsigned numbers. What it raises goes to
    `fail`, and the program traps. The object returned must be kept for as long as the linker is used.
    """
    parameters, results = signature
    layout, is_returning = struct.Struct("<" + "".join(_FIELDS[each] for each in parameters)), bool(results)

    def entry(_: int | None, caller: int, values: int, __: int) -> int:
        try:
            result = call(caller, *layout.unpack(ctypes.string_at(values, layout.size)))
            if is_returning:
                ctypes.c_uint64.from_address(values).value = result
        except BaseException as error:
            fail(error)
            trap = ffi.wasmtime_trap_new(ctypes.create_string_buffer(_TRAP_MESSAGE), len(_TRAP_MESSAGE))
            return ctypes.addressof(trap.contents)
        return 0

    callback = _Callback(entry)
    kind = wasmtime.FuncType([_TYPES[each]() for each in parameters], [_TYPES[each]() for each in results])
    place = [ctypes.create_string_buffer(text.encode()) for text in (module, name)]
    error = ffi.wasmtime_linker_define_func_unchecked(
        linker.ptr(), place[0], len(place[0]) - 1, place[1], len(place[1]) - 1, kind.ptr(),
        ctypes.cast(callback, ffi.wasmtime_func_unchecked_callback_t), None, _NO_FINALIZER,
    )  # fmt: skip
    if error:  # type: ignore[truthy-bool]  # a null pointer is false
        raise wasmtime.WasmtimeError._from_ptr(error)
    return callback


def run_export(store: wasmtime.Store, instance: wasmtime.Instance, name: bytes) -> None:
    """Call the instance's function `name`, which takes and returns nothing, or raise Trap or WasmtimeError."""
    found, trap = ffi.wasmtime_extern_t(), ctypes.POINTER(ffi.wasm_trap_t)()
    context = store._context()
    is_found = ffi.wasmtime_instance_export_get(
        context, ctypes.byref(instance._instance), ctypes.create_string_buffer(name), len(name), ctypes.byref(found)
    )
    assert is_found
    error = ffi.wasmtime_func_call(context, ctypes.byref(found.of.func), None, 0, None, 0, ctypes.byref(trap))
    if error:  # type: ignore[truthy-bool]  # as above
        raise wasmtime.WasmtimeError._from_ptr(error)
    if trap:  # type: ignore[truthy-bool]  # as above
        raise wasmtime.Trap._from_ptr(trap)


def exported_memory(caller: int, store: wasmtime.Store) -> tuple[Callable[[], int], Callable[[], int]] | None:
    """What tells the length and the address of the memory that the calling module exports as "memory", if it does.

    A caller is valid during its call only, so they look through the store, and must not be called once it is closed.
    """
    pointer = ctypes.cast(caller, ctypes.POINTER(ffi.wasmtime_caller_t))
    memory = wasmtime.Caller(pointer).get("memory")
    if not isinstance(memory, wasmtime.Memory):
        return None
    place = store._context(), ctypes.byref(memory._memory)
    data = partial(ffi.wasmtime_memory_data, *place)
    return partial(ffi._wasmtime_memory_data_size, *place), lambda: ctypes.addressof(data().contents)
