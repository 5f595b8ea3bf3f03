"""An nsys sqlite export as a Trace, whatever version wrote it: read by the tables and columns that are there.

In: the file. Out: `Trace`; ProfileError that names the file and what it lacks for one that is truncated or foreign. Sources:
exports of 2022.4 (here) and the documented schema of later versions. Names that moved: texts stand in `text` or, by number, in
StringIds; kernels' names in shortName or demangledName; payloads in int64Value, uint64Value, int32Value, doubleValue, ...;
launches in CUPTI_ACTIVITY_KIND_RUNTIME and, later, CUPTI_ACTIVITY_KIND_DRIVER. Reports (`nsys stats`) are not used.
"""

import sqlite3
from collections.abc import Iterator
from pathlib import Path

from harness.errors import ProfileError
from harness.profile.spans import Kernel, Span, Trace, apart

RANGES = (59, 60)  # NvtxPushPopRange, NvtxStartEndRange
PAYLOADS = ("int64Value", "uint64Value", "int32Value", "uint32Value", "doubleValue", "floatValue")
ACTIVITIES = ("CUPTI_ACTIVITY_KIND_KERNEL", "CUPTI_ACTIVITY_KIND_MEMCPY", "CUPTI_ACTIVITY_KIND_MEMSET")
CALLS = ("CUPTI_ACTIVITY_KIND_RUNTIME", "CUPTI_ACTIVITY_KIND_DRIVER")
LAUNCHES = ("LaunchKernel", "GraphLaunch")
NO_KERNEL_TABLE = "CUPTI_ACTIVITY_KIND_KERNEL is not in the export: nothing was launched, or CUDA was not traced"


class Export:
    """An open export: its tables with their columns, its strings."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
            rows = self._connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
            self.columns = {name: self._columns_of(name) for (name,) in rows}
            self.strings = (
                dict(self._connection.execute("SELECT id, value FROM StringIds")) if "StringIds" in self.columns else {}
            )
        except sqlite3.Error as error:
            raise ProfileError(f"{path}: cannot be read as an nsys export ({error}); export the report again") from None
        if "NVTX_EVENTS" not in self.columns and not any(
            name in self.columns for name in ("StringIds", "TARGET_INFO_SYSTEM_ENV")
        ):
            found = ", ".join(sorted(self.columns)[:5]) or "none"
            raise ProfileError(
                f"{path}: is not an nsys export (tables found: {found}); give one made by `nsys export -t sqlite`"
            )

    def rows(self, table: str, wanted: tuple[str, ...]) -> Iterator[dict]:
        """Rows of a table as dictionaries; a column that this version lacks is None."""
        have = [name for name in wanted if name in self.columns[table]]
        blank = dict.fromkeys(wanted)
        try:
            for row in self._connection.execute(f"SELECT {', '.join(have)} FROM {table}"):  # noqa: S608 - names of our own
                yield blank | dict(zip(have, row, strict=True))
        except sqlite3.Error as error:
            raise ProfileError(f"{self.path}: table {table} cannot be read ({error}); export the report again") from None

    def close(self) -> None:
        self._connection.close()

    def _columns_of(self, table: str) -> frozenset[str]:
        return frozenset(row[1] for row in self._connection.execute(f'PRAGMA table_info("{table}")'))


def read_sqlite(path: Path, *, domain: str | None = None) -> Trace:
    """Every closed push/pop range (of one domain, where given) and every kernel with its launch."""
    if not path.is_file():
        raise ProfileError(f"{path}: no such file; nsys left no export")
    export = Export(path)
    try:
        spans = tuple(_spans(export, domain))
        calls = list(_calls(export))
        kernels = None if ACTIVITIES[0] not in export.columns else apart(_kernels(export, calls))
    finally:
        export.close()
    return Trace("nsys", spans, kernels, sum(_is_launch(name) for _, _, name in calls), no_kernels=f"nsys: {NO_KERNEL_TABLE}")


def _spans(export: Export, domain: str | None) -> Iterator[Span]:
    if "NVTX_EVENTS" not in export.columns:
        return
    wanted = ("start", "end", "eventType", "text", "textId", "domainId", "globalTid", *PAYLOADS)
    events = list(export.rows("NVTX_EVENTS", wanted))
    text = {id(e): e["text"] if e["text"] is not None else export.strings.get(e["textId"]) for e in events}
    kept = None if domain is None else {e["domainId"] for e in events if e["eventType"] == 75 and text[id(e)] == domain}
    for event in events:
        is_range = event["eventType"] == RANGES[0] and event["end"] is not None
        if is_range and (kept is None or event["domainId"] in kept):
            payload = next((event[name] for name in PAYLOADS if event[name] is not None), None)
            extra = {} if payload is None else {"payload": payload}
            yield Span(text[id(event)] or "", event["start"], event["end"], event["globalTid"] or 0, extra)


def _calls(export: Export) -> Iterator[tuple[int, int, str]]:
    """(correlation, start, name) of the host's CUDA calls."""
    for table in CALLS:
        if table in export.columns:
            for row in export.rows(table, ("start", "correlationId", "nameId")):
                yield row["correlationId"], row["start"], export.strings.get(row["nameId"], "")


def _is_launch(name: str) -> bool:
    return any(part in name for part in LAUNCHES)


def _kernels(export: Export, calls: list[tuple[int, int, str]]) -> Iterator[Kernel]:
    launched = {correlation: (start, name) for correlation, start, name in calls}
    wanted = ("start", "end", "streamId", "correlationId", "shortName", "demangledName", "graphNodeId", "graphId")
    for table in ACTIVITIES:
        if table not in export.columns:
            continue
        for row in export.rows(table, wanted):
            start, call = launched.get(row["correlationId"], (None, ""))
            name = export.strings.get(row["shortName"]) or export.strings.get(row["demangledName"]) or table.rsplit("_", 1)[1]
            graph = row["correlationId"] if "GraphLaunch" in call or row["graphNodeId"] else None
            yield Kernel(name, row["start"], row["end"], start, row["streamId"] or 0, graph, is_copy=table != ACTIVITIES[0])
