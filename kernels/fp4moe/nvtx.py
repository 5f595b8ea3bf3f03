"""NVTX ranges that any nsys or ncu sees, sent straight to the tool that is listening.

In: range names and payloads. Out: push and pop in the NVTX domain "fp4moe" of the tool whose library NVTX_INJECTION64_PATH
names; nsys and ncu set it in what they start. Without it no tool listens, and there is no sink. Source: the injection
protocol of NVTX 3 (headers nvtxTypes.h and nvtxInit.h): the tool asks for a table of pointers and fills in its functions.
The Python package nvtx is not used: from 0.2.13 on, nsys 2022.4 sees its domains and none of its ranges. One number a range
is carried: the first of its payload.
"""

from __future__ import annotations

import ctypes
import os
from typing import Any

INJECTION = "NVTX_INJECTION64_PATH"
DOMAIN = "fp4moe"
CALLBACKS, VERSION_INFO = 1, 3  # NvtxExportTableID
MODULE_SIZES = {1: 16, 2: 9, 3: 15, 4: 7, 5: 16, 6: 7}  # NvtxCallbackModule -> its number of callbacks, id 0 included
CORE2 = 5
START, END, PUSH, POP, CREATE_DOMAIN, INITIALIZE = 2, 3, 4, 5, 12, 15  # NvtxCallbackIdCore2
API_VERSION = 3
ASCII_MESSAGE, NO_PAYLOAD, INT64, DOUBLE = 1, 0, 2, 3

_GetTable = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.POINTER(ctypes.c_void_p), ctypes.POINTER(ctypes.c_uint))
_SetVersion = ctypes.CFUNCTYPE(None, ctypes.c_uint32)
_Export = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_uint32)
_Push = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)
_Start = ctypes.CFUNCTYPE(ctypes.c_uint64, ctypes.c_void_p, ctypes.c_void_p)
_End = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_uint64)
_Pop = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p)
_CreateDomain = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_char_p)
_Initialize = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


class _Payload(ctypes.Union):
    _fields_ = [("int64", ctypes.c_int64), ("double", ctypes.c_double)]


class _Attributes(ctypes.Structure):
    """nvtxEventAttributes_v2, 48 bytes."""

    _fields_ = [
        ("version", ctypes.c_uint16),
        ("size", ctypes.c_uint16),
        ("category", ctypes.c_uint32),
        ("color_type", ctypes.c_int32),
        ("color", ctypes.c_uint32),
        ("payload_type", ctypes.c_int32),
        ("reserved", ctypes.c_int32),
        ("payload", _Payload),
        ("message_type", ctypes.c_int32),
        ("message", ctypes.c_char_p),
    ]


class _Callbacks(ctypes.Structure):
    _fields_ = [("size", ctypes.c_size_t), ("get_table", _GetTable)]


class _VersionInfo(ctypes.Structure):
    _fields_ = [
        ("size", ctypes.c_size_t),
        ("version", ctypes.c_uint32),
        ("reserved", ctypes.c_uint32),
        ("set_version", _SetVersion),
    ]


class _Client:
    """What an NVTX library holds for the tool: slots that it fills with its functions. Lives as long as the process."""

    def __init__(self) -> None:
        self._slots = {module: (ctypes.c_void_p * size)() for module, size in MODULE_SIZES.items()}
        self._tables = {module: _addresses(slots) for module, slots in self._slots.items()}
        self._callbacks = _Callbacks(ctypes.sizeof(_Callbacks), _GetTable(self._get_table))
        set_version = _SetVersion(lambda version: None)
        self._version = _VersionInfo(ctypes.sizeof(_VersionInfo), API_VERSION, 0, set_version)
        self.export = _Export(self._export)

    def function(self, callback: int, kind: Any) -> Any | None:
        """The tool's function of module CORE2, None where it gave none."""
        address = self._slots[CORE2][callback]
        return kind(address) if address else None

    def _export(self, table: int) -> int | None:
        exported = {CALLBACKS: self._callbacks, VERSION_INFO: self._version}.get(table)
        return None if exported is None else ctypes.addressof(exported)

    def _get_table(self, module: int, table: Any, size: Any) -> int:
        if module not in self._tables:
            return 0
        table[0] = ctypes.addressof(self._tables[module])
        if size:
            size[0] = MODULE_SIZES[module]
        return 1


def _addresses(slots: Any) -> Any:
    """Pointers to each slot, NULL for id 0."""
    step, base = ctypes.sizeof(ctypes.c_void_p), ctypes.addressof(slots)
    return (ctypes.c_void_p * len(slots))(None, *(base + step * index for index in range(1, len(slots))))


class Nvtx:
    """A sink for `ranges`; about 2 us a range under nsys, less under a tool that only counts."""

    def __init__(self, client: _Client, domain: int) -> None:
        self._push, self._pop = client.function(PUSH, _Push), client.function(POP, _Pop)
        self._start, self._end = client.function(START, _Start), client.function(END, _End)
        self._domain = domain
        self._attributes: dict[str, tuple[_Attributes, int]] = {}

    def push(self, name: str, payload: dict[str, Any]) -> None:
        self._push(self._domain, self._filled(name, payload))

    def pop(self, token: None) -> None:
        self._pop(self._domain)

    def start(self, name: str, payload: dict[str, Any]) -> int:
        return self._start(self._domain, self._filled(name, payload))

    def end(self, token: int) -> None:
        self._end(self._domain, token)

    def _filled(self, name: str, payload: dict[str, Any]) -> int:
        """The address of the name's attributes with this payload; the tool copies them during the call."""
        attributes, address = self._attributes.get(name) or self._new(name)
        attributes.payload_type = NO_PAYLOAD
        for number in payload.values():
            if isinstance(number, int):
                attributes.payload_type, attributes.payload.int64 = INT64, number
                break
            if isinstance(number, float):
                attributes.payload_type, attributes.payload.double = DOUBLE, number
                break
        return address

    def _new(self, name: str) -> tuple[_Attributes, int]:
        attributes = _Attributes(API_VERSION, ctypes.sizeof(_Attributes))
        attributes.message_type, attributes.message = ASCII_MESSAGE, name.encode()
        self._attributes[name] = attributes, ctypes.addressof(attributes)
        return self._attributes[name]


_client: _Client | None = None


def open_nvtx() -> tuple[Nvtx | None, str]:
    """(sink, which tool listens), or (None, why no range would arrive). Call once a process."""
    global _client
    path = os.environ.get(INJECTION)
    if not path:
        return None, f"no profiler listens to NVTX ({INJECTION} is not set)"
    try:
        initialize = ctypes.CDLL(path).InitializeInjectionNvtx2
    except (OSError, AttributeError) as error:
        return None, f"{INJECTION}={path}: cannot be used as an NVTX tool ({error})"
    initialize.argtypes, initialize.restype = [_Export], ctypes.c_int
    client = _Client()
    if not initialize(client.export):
        return None, f"{path}: refused this process"
    _client = client  # the tool keeps its addresses
    start = client.function(INITIALIZE, _Initialize)
    if start is not None:
        start(None)
    create = client.function(CREATE_DOMAIN, _CreateDomain)
    if create is None or any(client.function(callback, _Pop) is None for callback in (START, END, PUSH, POP)):
        return None, f"{path}: takes no ranges in domains"
    return Nvtx(client, create(DOMAIN.encode())), path
