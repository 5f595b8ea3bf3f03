"""One bench from start to end: who takes part, ceilings, then by group and number of tokens the rows.

In: a `Request`, a writer, a line of progress. Out: rows, written as they come. Correctness comes first: a contender that
fails a case has no speed; what is timed is judged again by the output of the timed run itself. What cannot run (memory,
shape, an error) is a row with its reason, and the rest goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch

from harness.kernel_bench import ceilings as measured_ceilings
from harness.kernel_bench.check import References, Verdict, cases, check, error_bound
from harness.kernel_bench.contenders import Absent, Contender, implementations
from harness.kernel_bench.formats import BenchFormat
from harness.kernel_bench.layers import Layers, make_layers
from harness.kernel_bench.limits import Ceilings, num_copies
from harness.kernel_bench.machine import gpu_state, l2_bytes, survive
from harness.kernel_bench.memory_groups import group_by_memory
from harness.kernel_bench.one_count import Setting, measure
from harness.kernel_bench.peers import peers
from harness.kernel_bench.quality import SCORED, Quality, QualityBook, missing
from harness.kernel_bench.results import BenchWriter
from harness.kernel_bench.routing import RoutingSpec
from harness.kernel_bench.rows import ERROR, OUT_OF_MEMORY
from harness.kernel_bench.shapes import LayerShape, refuse_on_cpu
from harness.kernel_bench.timing import ORDER

TIMED_REGION = (
    "inside: sorting or alignment by expert, both products, SiLU, router weights and the sum over a token's experts; "
    "outside: the router's product, softmax and top-k. The same for all."
)
MAX_COPIES = 64


@dataclass(frozen=True, slots=True)
class Request:
    """What was asked for. `copies` None: computed from the L2 cache."""

    shape: LayerShape
    forms: tuple[BenchFormat, ...]
    kernels: tuple[str, ...]
    peers: tuple[str, ...]
    tokens: tuple[int, ...]
    routing: RoutingSpec
    seed: int = 0
    copies: int | None = None
    repeats: int = 15
    check_only: bool = False


Progress = Callable[[dict], None]


def who_runs(request: Request, device: torch.device) -> tuple[list[Contender], list[Absent]]:
    """Implementations, then peers; UsageError where the CPU would take hours."""
    taking, absent = implementations(request.forms, request.kernels, request.shape, device)
    if device.type == "cpu":
        refuse_on_cpu(request.shape, request.kernels, request.tokens)
    others, missing_peers = peers(request.peers, request.shape, device)
    return taking + others, absent + missing_peers


def run(
    request: Request,
    taking: list[Contender],
    absent: list[Absent],
    writer: BenchWriter,
    progress: Progress,
    *,
    device: torch.device,
) -> list[dict]:
    """Every row of those who take part (see `who_runs`); bench.json gets ceilings, clocks and who is absent on the way."""
    torch.set_grad_enabled(False)
    torch.set_float32_matmul_precision("highest")  # the reference is float32, not TF32
    writer.update(absent=[one.to_json() for one in absent], timed_region=TIMED_REGION, order=ORDER)
    writer.update(gpu_state_before=gpu_state(device))
    ceilings = None if request.check_only else measured_ceilings.measure(device)
    smallest = min((c.form.bytes_an_expert(request.shape.expert_weights) for c in taking), default=1.0) * request.shape.top_k
    copies = 1 if request.check_only else request.copies or min(MAX_COPIES, num_copies(l2_bytes(device), smallest))
    rotation = {"copies": copies, "l2_bytes": l2_bytes(device), "least_bytes_between_reads": copies * smallest}
    rotation["is_past_four_times_l2"] = copies * smallest >= 4 * l2_bytes(device)
    writer.update(ceilings=ceilings and ceilings.to_json(), rotation=rotation, perplexity_of=SCORED)
    written = []
    for row in _rows(request, taking, copies, ceilings, device=device):
        writer.append(row)
        progress(row)
        written.append(row)
    writer.update(gpu_state_after=gpu_state(device))
    return written


def _rows(
    request: Request, taking: list[Contender], copies: int, ceilings: Ceilings | None, *, device: torch.device
) -> Iterator[dict]:
    book = QualityBook(device)
    packed_bytes = {c.form.weights: c.form.bytes_an_expert(request.shape.num_weights) for c in taking}
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else float("inf")
    for group in group_by_memory([c.key for c in taking], packed_bytes, copies=copies, free_bytes=free):
        members = [taking[index] for index in group]
        yield from _group_rows(request, members, copies, ceilings, book=book, device=device)
        if device.type == "cuda":
            torch.cuda.empty_cache()


def _group_rows(
    request: Request,
    members: list[Contender],
    copies: int,
    ceilings: Ceilings | None,
    *,
    book: QualityBook,
    device: torch.device,
) -> Iterator[dict]:
    """Pack, check, score, then time by number of tokens; packed weights are dropped at the end."""
    packs, failed = _packs(members)
    layers, problem = _try_layers(request, packs, copies, device)
    if problem is not None and len(members) > 1:  # the estimate was too small: one after the other
        for member in members:
            yield from _group_rows(request, [member], copies, ceilings, book=book, device=device)
        return
    if problem is not None:
        failed = {id(members[0]): _stopped(members[0], OUT_OF_MEMORY, f"packing {copies} copies: {problem}")}
    failed |= {id(m): _stopped(m, ERROR, layers.failed[m.key]) for m in members if m.key in layers.failed}
    references = References(layers.rows)
    made = cases(request.shape, seed=request.seed, device=device)
    verdicts = failed | {id(m): _verdict(m, layers, made, references) for m in members if id(m) not in failed}
    qualities = {id(m): _quality(m, verdicts[id(m)], book) for m in members}
    for tokens in request.tokens:
        setting = Setting(request, tokens, copies, ceilings, device)
        yield from measure(setting, members, layers, references, verdicts=verdicts, qualities=qualities)


def _try_layers(request: Request, packs: dict, copies: int, device: torch.device) -> tuple[Layers, str | None]:
    """Packed layers; or none and the reason, with what was packed so far given back."""
    try:
        return make_layers(request.shape, packs, copies=copies, seed=request.seed, device=device), None
    except torch.OutOfMemoryError as error:
        problem = _first_line(error)
    if device.type == "cuda":
        torch.cuda.empty_cache()
    return Layers({}, {}), problem


def _stopped(member: Contender, status: str, reason: str) -> Verdict:
    return Verdict(False, None, error_bound(member.form.activations), "packing", reason, status)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _packs(members: list[Contender]) -> tuple[dict, dict[int, Verdict]]:
    """Pack functions by (weights, layout), and those whose code cannot be imported."""
    packs, failed = {}, {}
    for member in members:
        try:
            packs[member.key] = member.pack()
        except (ImportError, AttributeError) as error:
            failed[id(member)] = _stopped(member, ERROR, f"its pack function cannot be imported: {error}")
    return packs, failed


def _verdict(member: Contender, layers: Layers, made: list, references: References) -> Verdict:
    if member.not_checked is not None:
        return Verdict(True, None, error_bound(member.form.activations), "not checked")
    try:
        return check(member, layers.packed[member.key][0], made, references)
    except torch.OutOfMemoryError as error:
        return _stopped(member, OUT_OF_MEMORY, _first_line(error))
    except Exception as error:  # a kernel that raises is that kernel's result, not the end of the bench
        survive(error)
        reason = f"{type(error).__name__}: {_first_line(error)}"
        return Verdict(False, None, error_bound(member.form.activations), "a call that raised", reason)


def _quality(member: Contender, verdict: Verdict, book: QualityBook) -> Quality:
    return book.of(member) if verdict.passed else missing(f"not scored: {verdict.reason}")
