"""What `harness kernels bench` does between its options and its exit code.

In: options as text. Out: `Result`: the folder, bench.json and the rows. Parses everything before anything is measured,
writes the folder, renders tables and plots at the end, also when the bench broke off half-way.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import torch

from harness.errors import NothingMeasuredError, UsageError
from harness.kernel_bench.formats import parse_format
from harness.kernel_bench.machine import bench_device, device_name
from harness.kernel_bench.peers import parse_peers
from harness.kernel_bench.progress import say, say_row
from harness.kernel_bench.render import render
from harness.kernel_bench.results import BenchWriter, default_folder, read_bench
from harness.kernel_bench.routing import parse_routing
from harness.kernel_bench.rows import CHECKED, OK
from harness.kernel_bench.run import Request, run, who_runs
from harness.kernel_bench.shapes import layer_shape

DEFAULT_PRECISIONS = ("nvfp4-a16", "mxfp4-a16")
DEFAULT_TOKENS = {"cuda": tuple(2**power for power in range(13)), "cpu": (1, 2, 4, 8, 16)}
MAX_TOKENS = 2**20


@dataclass(frozen=True, slots=True)
class Result:
    """A bench's folder as data."""

    folder: Path
    info: dict
    rows: list[dict]

    def raise_if_nothing(self) -> None:
        """NothingMeasuredError where no row has a speed or passed its check."""
        if not any(row["status"] in (OK, CHECKED) for row in self.rows):
            reasons = sorted({f"{row['kernel']}: {row['reason']}" for row in self.rows})
            reasons += [f"{one['name']}: {one['reason']}" for one in self.info.get("absent", [])]
            raise NothingMeasuredError("\n".join(["nothing was measured:", *(f"  {reason}" for reason in reasons)]))


def make_request(device: torch.device, *, model: str, tokens: str | None, precisions, routing: str, **rest) -> Request:
    """The parsed request; UsageError for every option that cannot be carried out."""
    return Request(
        shape=layer_shape(model),
        forms=tuple(dict.fromkeys(parse_format(text) for text in precisions or DEFAULT_PRECISIONS)),
        kernels=tuple(dict.fromkeys(rest.pop("kernels"))),
        peers=parse_peers(rest.pop("peers")),
        tokens=DEFAULT_TOKENS[device.type] if tokens is None else parse_tokens(tokens),
        routing=parse_routing(routing),
        **rest,
    )


def parse_tokens(text: str) -> tuple[int, ...]:
    """ "1,2,4": ascending, each once."""
    try:
        counts = sorted({int(part) for part in text.split(",")})
    except ValueError:
        counts = []
    if not counts or counts[0] < 1 or counts[-1] > MAX_TOKENS:
        raise UsageError(f"--tokens: must be whole numbers from 1 to {MAX_TOKENS} with commas between (got {text!r})")
    return tuple(counts)


def measure(*, out: Path | None, **asked) -> Result:
    """Run the bench, write and render its folder."""
    device = bench_device()
    request = make_request(device, **asked)
    taking, absent = who_runs(request, device)  # whatever is refused is refused before a folder is made
    writer = BenchWriter(out or default_folder(request.shape.model), _facts(request, device))
    say(f"{request.shape.model} on {device_name(device)}; results in {writer.folder}")
    started = time.monotonic()
    try:
        run(request, taking, absent, writer, say_row, device=device)
    except BaseException as error:
        writer.update(broke_off=f"{type(error).__name__}: {error}")
        render(writer.folder)
        raise
    writer.update(seconds=round(time.monotonic() - started, 1))
    say(f"measured in {time.monotonic() - started:.0f} s")
    return render_folder(writer.folder)


def render_folder(folder: Path) -> Result:
    """Tables and plots from what is on disk."""
    read_bench(folder)
    for note in render(folder):
        say(note)
    bench = read_bench(folder)
    return Result(bench.folder, bench.info, bench.rows)


def show(result: Result) -> None:
    """The table and the paths, on standard output."""
    from rich.console import Console

    from harness.cli.options import print_table
    from harness.kernel_bench.table import rich_tables

    if result.rows:
        print_table(lambda: rich_tables(result.info, result.rows))
    Console(highlight=False).print(f"\n{result.folder}/table.md, rows.jsonl, bench.json", soft_wrap=True)


def _facts(request: Request, device: torch.device) -> dict:
    from harness.record import provenance

    shape = request.shape
    return {
        "started": provenance.utc_now(),
        "provenance": provenance.collect(provenance.command_line(), request.seed),
        "device": {"type": device.type, "name": device_name(device), "torch_cuda": torch.version.cuda},
        "request": {
            "model": shape.model,
            "precisions": [form.precision.id for form in request.forms],
            "kernels": list(request.kernels),
            "peers": list(request.peers),
            "tokens": list(request.tokens),
            "routing": request.routing.text,
            "seed": request.seed,
            "copies": request.copies,
            "repeats": request.repeats,
            "check_only": request.check_only,
        },
    }
