"""All contenders of a group at one number of tokens: same x, same ids, checked, then timed in turn.

In: a setting, packed layers, verdicts of the checks before. Out: rows. A timed run goes through every copy of the layer,
each with its own weights and ids, so that no weight is read from a cache; the output for copy 0 is judged before the
timing starts.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import torch

from harness.kernel_bench import limits, rows
from harness.kernel_bench.check import Case, References, Verdict, judge, make_case, on_device, worst
from harness.kernel_bench.contenders import Contender, Routed
from harness.kernel_bench.layers import Layers
from harness.kernel_bench.limits import Ceilings, Limit
from harness.kernel_bench.machine import device_name, survive
from harness.kernel_bench.quality import Quality
from harness.kernel_bench.routing import Slots, draw
from harness.kernel_bench.timing import WALL, Replay, Timed, interleave, rounds_for
from harness.record.provenance import own_sources_sha256

if TYPE_CHECKING:
    from harness.kernel_bench.run import Request


@dataclass(frozen=True, slots=True)
class Setting:
    """One number of tokens of a request."""

    request: Request
    tokens: int
    copies: int
    ceilings: Ceilings | None
    device: torch.device

    def slots(self) -> list[Slots]:
        """Expert ids and router weights by copy."""
        shape, request = self.request.shape, self.request
        drawn = {"seed": request.seed}
        return [draw(request.routing, self.tokens, shape.num_experts, shape.top_k, **drawn, copy=c) for c in range(self.copies)]


@dataclass(slots=True)
class _Entry:
    """A contender on its way through: what stops it, or its replay and times."""

    contender: Contender
    verdict: Verdict
    status: str = rows.OK
    reason: str | None = None
    replay: Replay | None = None
    timed: Timed | None = None

    def stop(self, status: str, reason: str | None) -> None:
        self.status, self.reason, self.replay = status, reason, None


def measure(
    setting: Setting,
    members: list[Contender],
    layers: Layers,
    references: References,
    *,
    verdicts: dict[int, Verdict],
    qualities: dict[int, Quality],
) -> Iterator[dict]:
    """One row a member."""
    slots = setting.slots()
    shape, device = setting.request.shape, setting.device
    case = make_case(f"{setting.tokens} timed tokens", slots[0], shape, seed=setting.request.seed, device=device)
    routed = [on_device(own, shape, device) for own in slots]
    entries = [_Entry(member, verdicts[id(member)]) for member in members]
    for entry in entries:
        _prepare(entry, setting, layers, references, case=case, routed=routed)
    references.forget(case)
    if not setting.request.check_only:
        _time([entry for entry in entries if entry.replay is not None], setting.request.repeats)
    ready = [entry for entry in entries if entry.status == rows.OK]
    for entry in entries:
        if entry.status == rows.OK and setting.request.check_only:
            entry.stop(rows.CHECKED, "--check-only: nothing was timed")
        others = [other.contender.title for other in ready if other is not entry]
        yield _row(entry, setting, slots, qualities[id(entry.contender)], others=others)


def _prepare(
    entry: _Entry, setting: Setting, layers: Layers, references: References, *, case: Case, routed: list[Routed]
) -> None:
    """Make the timed callable and judge its output; what stops it is noted in the entry."""
    contender = entry.contender
    if (refusal := contender.refusal(setting.tokens)) is not None:
        return entry.stop(rows.NOT_RUN, refusal)
    if not entry.verdict.passed:
        return entry.stop(entry.verdict.status, entry.verdict.reason)
    try:
        packed = layers.packed[contender.key]
        calls = [contender.bind(own, case.x_TD, ids) for own, ids in zip(packed, routed, strict=True)]
        replay = _replay(contender, calls, setting)
        verdict = _timed_verdict(contender, replay.output[0], references, case)
    except torch.OutOfMemoryError as error:
        entry.stop(rows.OUT_OF_MEMORY, (str(error).splitlines() or ["out of memory"])[0])
        return torch.cuda.empty_cache()
    except Exception as error:  # a kernel that raises is that kernel's row, not the end of the bench
        survive(error)
        return entry.stop(rows.ERROR, f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}")
    entry.replay, entry.verdict = replay, worst([entry.verdict, verdict])
    if not verdict.passed:
        entry.stop(rows.FAILED, verdict.reason)


def _replay(contender: Contender, calls: list, setting: Setting) -> Replay:
    expected_us = 0.0
    if setting.ceilings is not None and setting.device.type == "cuda":
        expected_us = setting.copies * _limit(contender, setting, float(setting.request.shape.num_experts)).us
    rounds = rounds_for(expected_us) if expected_us else 1
    is_capturable = contender.is_capturable and not setting.request.check_only
    return Replay(lambda: [call() for call in calls], device=setting.device, is_capturable=is_capturable, rounds=rounds)


def _timed_verdict(contender: Contender, output: torch.Tensor, references: References, case: Case) -> Verdict:
    from harness.kernel_bench.check import error_bound

    bound = error_bound(contender.form.activations)
    if contender.not_checked is not None:
        return Verdict(True, None, bound, "not checked")
    return judge(output, references.of(contender, case), case, bound)


def _time(entries: list[_Entry], repeats: int) -> None:
    if entries:
        for entry, timed in zip(entries, interleave([entry.replay for entry in entries], repeats), strict=True):
            entry.timed = timed


def _limit(contender: Contender, setting: Setting, experts_hit: float) -> Limit:
    hit = {"experts_hit": experts_hit, "ceilings": setting.ceilings}
    return limits.limit_of(setting.request.shape, contender.form, setting.tokens, **hit)


def _row(entry: _Entry, setting: Setting, slots: list[Slots], quality: Quality, *, others: list[str]) -> dict:
    contender, request, shape = entry.contender, setting.request, setting.request.shape
    experts_hit = float(np.mean([own.num_hit for own in slots]))
    is_checked = contender.not_checked is None and entry.status in (rows.OK, rows.CHECKED, rows.FAILED)
    row = {
        "status": entry.status,
        "reason": entry.reason,
        "model": shape.model,
        "hidden": shape.hidden,
        "intermediate": shape.intermediate,
        "num_experts": shape.num_experts,
        "top_k": shape.top_k,
        "weights": contender.form.weights,
        "activations": contender.form.activations,
        "format": contender.form.label,
        "kernel": contender.name,
        "is_peer": contender.is_peer,
        "is_reference": contender.is_reference,
        "layout": contender.layout,
        "note": contender.note,
        "label": _label(entry),
        "tokens": setting.tokens,
        "routing": request.routing.name,
        "routing_parameters": request.routing.parameters,
        "ids_seed": request.seed,
        "copies": setting.copies,
        "experts_hit": experts_hit,
        "slots_by_expert": np.bincount(slots[0].ids_TK.ravel(), minlength=shape.num_experts).tolist(),
        "interleaved_with": others,
        "relative_error": entry.verdict.relative_error if is_checked else None,
        "error_bound": entry.verdict.bound,
        "error_case": entry.verdict.worst_case if is_checked else None,
        "passed": entry.verdict.passed if is_checked else None,
        "not_checked": contender.not_checked,
        "kernel_sources_sha256": _sources(),
        "own_sources_sha256": own_sources_sha256(contender.row),
        "gpu": device_name(setting.device),
    }
    return row | quality.fields() | _speed(entry, setting, experts_hit)


def _speed(entry: _Entry, setting: Setting, experts_hit: float) -> dict:
    """The columns of time; null where there is none."""
    shape, form, timed = setting.request.shape, entry.contender.form, entry.timed
    weight_bytes, flops = experts_hit * form.bytes_an_expert(shape.expert_weights), shape.flops(setting.tokens)
    found = {"weight_bytes": weight_bytes, "flops": flops, "repeats": 0 if timed is None else setting.request.repeats}
    names = ("us_median", "us_iqr", "us_samples", "timing", "weight_gb_s", "tflops", "share_of_read_ceiling",
             "share_of_product_ceiling", "product_ceiling", "limit_us", "limit_bound_by", "ratio_to_limit")  # fmt: skip
    found |= dict.fromkeys(names)
    if setting.ceilings is None:
        return found
    limit = _limit(entry.contender, setting, experts_hit)
    found |= {"limit_us": limit.us, "limit_bound_by": limit.bound_by, "product_ceiling": limit.product_kind}
    if timed is None:
        return found
    samples = [us / setting.copies for us in timed.microseconds]
    us = timed.median_us / setting.copies
    found |= {"us_median": us, "us_iqr": timed.iqr_us / setting.copies, "us_samples": samples, "timing": timed.method}
    return found | limits.figures(limit, us, setting.ceilings)


def _label(entry: _Entry) -> str | None:
    if entry.timed is not None and entry.timed.method == WALL:
        return rows.REFERENCE_LABEL
    return "the reference: not FP4's speed" if entry.contender.is_reference else None


@cache
def _sources() -> str:
    from harness.record.provenance import kernel_sources_sha256

    return kernel_sources_sha256()
