"""What a record says of a server: who it is, what it decided as far as it tells, its memory.

In: spec, launched server, identity. Out: the `load` answer of a worker (implementation, weights, engine) and memory
metrics.
"""

import re

from harness.backends.served.http import HttpProblem, Server
from harness.backends.served.identify import Identity
from harness.backends.served.launch import Launched
from harness.backends.vllm.decided import choice_block, implementation_rows
from harness.backends.vllm.log import read_log
from harness.backends.vllm.memory import CAUSES
from harness.collect.values import measured, missing

_CACHE_INFO = re.compile(r"^vllm:cache_config_info\{(?P<labels>.*)\}", re.MULTILINE)
_LABEL = re.compile(r'(\w+)="([^"]*)"')
_BYTES = re.compile(r"^fp4moe_(?P<name>kv_cache_bytes|weight_bytes)\{[^}]*\} (?P<value>\S+)", re.MULTILINE)
NOT_TOLD = "a server does not tell its memory by cause"


def loaded(spec, launched: Launched, identity: Identity | None) -> dict:
    """What `load` answers; `implementation` is left out where it is the plan's own."""
    block = {
        "name": spec.kind,
        "served": True,
        "url": launched.server.url if spec.kind == "openai" else "started by the harness",
        "model": identity.model if identity else launched.model,
        "version": identity.version if identity else None,
    }
    if spec.kind == "vllm":
        return _vllm(launched, block)
    if spec.kind == "native":
        details = identity.details if identity else {}
        told = details.get("engine") or {}
        block |= {name: told[name] for name in ("note", "attention", "kv_cache") if name in told}
        return {"check": None, "weights": details.get("weights"), "engine": block}
    return {
        "implementation": [],
        "check": None,
        "weights": None,
        "engine": block | {"stated": "precision as the scenario states it"},
    }


def _vllm(launched: Launched, block: dict) -> dict:
    decisions = read_log(launched.child.log.read_text(errors="replace"))
    labels = dict(_LABEL.findall(match["labels"])) if (match := _CACHE_INFO.search(_metrics(launched.server))) else {}
    block |= {
        "attention": choice_block(decisions.attention, []),
        "moe": choice_block(decisions.moe, []),
        "kv_cache": {
            "num_blocks": _integer(labels.get("num_gpu_blocks")),
            "block_tokens": _integer(labels.get("block_size")),
            "dtype": labels.get("cache_dtype"),
            "tokens": decisions.kv_cache_tokens,
        },
        "weights_gib_by_log": decisions.weights_gib,
        "graphs_gib_by_log": decisions.graphs_gib,
        "args": launched.args,
    }
    return {
        "implementation": implementation_rows(decisions, {}),
        "check": None,
        "weights": launched.weights.block("trained"),
        "engine": block,
    }


def memory_metrics(spec, launched: Launched) -> dict[str, dict]:
    """Our own server tells the sums; others nothing."""
    names = (*CAUSES, "weight_bytes", "kv_cache_bytes", "activation_peak_bytes", "process_peak_rss_bytes")
    found = {name: missing(name, NOT_TOLD) for name in names}
    if spec.kind == "native":
        rows = {match["name"]: float(match["value"]) for match in _BYTES.finditer(_metrics(launched.server))}
        found |= {name: measured(name, int(value), 1) for name, value in rows.items()}
    return found


def _metrics(server: Server) -> str:
    try:
        return server.get(f"{server.root}/metrics")
    except HttpProblem:
        return ""


def _integer(text: str | None) -> int | None:
    return int(text) if text and text.isdigit() else None
