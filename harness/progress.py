"""Progress of a run on the screen: what runs now, what came of each part, and the time left.

Everything goes to standard error. On a terminal a live bar, else one line a finished (cell, repeat).
The time left is estimated from the seconds that finished parts of the same kind took, scaled by their tokens.
"""

import sys
import time

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from harness.plan import Cell
from harness.workload.bounds import bounds_of

# Seconds a token before anything was measured; replaced by what the run itself shows.
FIRST_GUESS_S = {True: 0.0004, False: 0.004}


def num_tokens(cell: Cell) -> int:
    """Tokens that one repeat of a cell works through: scored ones, or generated ones."""
    workload = cell.workload
    return workload.max_tokens if cell.is_quality else bounds_of(workload).total_output_tokens


class RunProgress:
    """Tracks a list of (cell, repeat); use as a context manager."""

    def __init__(self, work: list[tuple[Cell, int]]):
        self._left = {(cell.cell_id, repeat): cell for cell, repeat in work}
        self._total = len(work)
        names = {cell.backend for cell, _ in work}
        self._backend_width = max(map(len, names)) if len(names) > 1 else 0
        self._seconds = {True: 0.0, False: 0.0}
        self._tokens = {True: 0, False: 0}
        self._part_started = time.monotonic()
        self._console = Console(stderr=True, highlight=False)
        columns = [BarColumn(bar_width=24), TextColumn("{task.description}")]
        self._bar = Progress(*columns, console=self._console, transient=True, disable=not self._console.is_terminal)
        self._task = self._bar.add_task("starting", total=1.0)

    def __enter__(self) -> "RunProgress":
        self._bar.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._bar.stop()

    def update(self, cell: Cell, repeat: int, fraction: float, what: str) -> None:
        """Called often while a part runs."""
        if not self._console.is_terminal:
            return
        measured = 0.0 if what == "loading" else fraction
        done = (self._total - len(self._left) + measured) / self._total
        left = self.seconds_left(current=(cell.cell_id, repeat), fraction=measured)
        text = f"{cell.precision.label}  {cell.workload_name}  {what} {fraction:4.0%}  {clock(left)} left"
        self._bar.update(self._task, completed=done, description=text)

    def finished(self, cell: Cell, repeat: int, record: dict) -> None:
        """Called once a part; prints its line."""
        now = time.monotonic()
        self._left.pop((cell.cell_id, repeat), None)
        if record["status"] == "ok":
            self._seconds[cell.is_quality] += now - self._part_started
            self._tokens[cell.is_quality] += num_tokens(cell)
        self._part_started = now
        number = self._total - len(self._left)
        width = len(str(self._total))
        backend = f"{cell.backend:{self._backend_width}} " if self._backend_width else ""
        line = f"[{number:{width}d}/{self._total}] {backend}{cell.precision.label:26} {cell.workload_name:10} r{repeat}  "
        self._console.print(line + f"{result_line(record)}  ({clock(self.seconds_left())} left)", markup=False, soft_wrap=True)

    def seconds_left(self, current: tuple[str, int] | None = None, fraction: float = 0.0) -> float:
        """Estimate over everything not finished; `fraction` of the `current` part is done."""
        total = 0.0
        for key, cell in self._left.items():
            share = 1.0 - fraction if key == current else 1.0
            total += share * num_tokens(cell) * self._seconds_a_token(cell.is_quality)
        return total

    def _seconds_a_token(self, is_quality: bool) -> float:
        if self._tokens[is_quality] == 0:
            return FIRST_GUESS_S[is_quality]
        return self._seconds[is_quality] / self._tokens[is_quality]


def result_line(record: dict) -> str:
    """The figure of a record that a person waits for."""
    if record["status"] != "ok":
        return f"FAILED: {record['error']['message']}"
    state = "" if record["verdict"]["state"] == "VALID" else f"  {record['verdict']['state']}"
    metrics = record["metrics"]
    if record["workload"]["kind"] == "heldout":
        return f"perplexity {_show(metrics['perplexity'], '.3f')}{state}"
    rate, ttft = metrics["output_throughput"], metrics["median_ttft_ms"]
    if rate["value"] is None:
        return f"not measured: {rate['reason']}{state}"
    return f"{_show(rate, '.1f')} tokens/s, first token {_show(ttft, '.0f')} ms{state}"


def _show(metric: dict, form: str) -> str:
    return "not measured" if metric["value"] is None else format(metric["value"], form)


def clock(seconds: float) -> str:
    """`1:05`, minutes and seconds."""
    whole = int(seconds + 0.5)
    return f"{whole // 60}:{whole % 60:02d}"


def say(message: str) -> None:
    """One line for a person, on standard error."""
    print(message, file=sys.stderr, flush=True)
