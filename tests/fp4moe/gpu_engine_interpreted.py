"""Run under TRITON_INTERPRET=1 by test_gpu_engine_interpreted.py with names of RUNS: one JSON object a line. No test module."""

import json
import sys
from dataclasses import replace

import numpy as np
import torch

from fp4moe import ranges
from fp4moe.errors import EngineError
from fp4moe.precision import Precision
from fp4moe.runtime import Engine, MixtralConfig, MixtralModel, RandomWeights, Request, RoutingRecorder, load_model
from fp4moe.runtime.gpu.checks import agreement, faults, sameness
from fp4moe.runtime.gpu.checks.serving import requests_of, serve
from fp4moe.runtime.gpu.engine import GpuEngine

CONFIG = MixtralConfig(
    vocab_size=40, hidden_size=32, intermediate_size=32, num_layers=2, num_heads=2, num_kv_heads=1, head_dim=32,
    num_experts=4, top_k=2, rope_theta=1e4, max_positions=64,
)  # fmt: skip
PROMPTS = [[3, 9, 4], [7, 30, 21, 8, 8, 15, 2, 11, 5], [12], [6, 17]]


def say(id: str, **values) -> None:
    print(json.dumps({"id": id, **values}), flush=True)


def run_alike(model: MixtralModel) -> None:
    """Both engines, token by token and expert by expert; whole prompts and stretches of 4."""
    arrays, tokens = [], []
    requests = requests_of(PROMPTS[:3], 3)
    for name, options in (("plain", None), ("whole", {}), ("stretches", {"step_tokens": 4})):
        recorder = RoutingRecorder(CONFIG.num_layers)
        make = Engine if options is None else GpuEngine
        engine = make(model, max_slots=2, max_context=16, recorder=recorder, **(options or {}))
        with ranges.collected() as collector:
            served = serve(engine, requests)
        tokens.append(served.tokens)
        arrays.append(recorder.arrays())
        if options is None:
            continue
        same = [np.array_equal(*(a["expert_ids"][a["request"] == i] for a in (arrays[0], arrays[-1]))) for i in range(3)]
        steps = [(step.phase, step.num_tokens, step.num_requests) for step in served.steps]
        say(name, same_tokens=tokens[-1] == tokens[0], same_experts=same, steps=steps, has_work=engine.has_work,
            finished=sorted(name for step in served.steps for name in step.finished),
            ranges=[(ended.name, ended.depth) for ended in collector.ended])  # fmt: skip


def run_end_of_text(model: MixtralModel) -> None:
    """The second token that the plain engine gives is made the end of text: the request ends there, its slot goes on."""
    alone = serve(Engine(model, max_slots=1, max_context=16), [Request("a", PROMPTS[0], 5)]).tokens["a"]
    ending = MixtralModel(replace(model.config, eos_token_ids=(alone[1],)), model.precision, model.weights, model.choices)
    requests = [Request("a", PROMPTS[0], 5, ignore_eos=False), Request("b", PROMPTS[0], 5)]
    served = serve(GpuEngine(ending, max_slots=1, max_context=16), requests)
    say("end-of-text", alone=alone, tokens=served.tokens, first=alone.index(alone[1]))


def run_idle(model: MixtralModel) -> None:
    engine = GpuEngine(model, max_slots=1, max_context=16)
    said = []
    engine.submit(Request("a", [3], 2))
    for act in (
        lambda: engine.record_into(None),
        lambda: engine.impose_routing(None),
        lambda: engine.cancel("nobody"),
        lambda: (engine.cancel("a"), engine.step()),
        lambda: engine.impose_routing(torch.zeros(3, 2, 3, dtype=torch.int32)),
        lambda: engine.impose_routing(torch.full((3, 2, 2), 4, dtype=torch.int32)),
        lambda: GpuEngine(model, max_slots=0, max_context=16),
        lambda: GpuEngine(model, max_slots=1, max_context=65),
    ):
        try:
            act()
            said.append(None)
        except EngineError as error:
            said.append(str(error))
    say("refusals", said=said, facts=engine.facts, kv=engine.kv_cache_bytes)


def run_checks(model: MixtralModel) -> None:
    """The lines of the check that a GPU is given, on a small model."""
    ids = torch.randint(3, 40, (60,)).tolist()
    for line in (
        *agreement.check_tokens(model, PROMPTS[:2], new_tokens=3, max_slots=2),
        *agreement.check_scoring(model, ids, count=2, length=12),
        *faults.check_requests(model, PROMPTS, new_tokens=5),
        faults.check_nan(model, PROMPTS, new_tokens=2),
        faults.check_one_nan(model),
        *sameness.check_imposed(model, PROMPTS[:2], new_tokens=3),
        sameness.check_imposed_weights(model.device),
    ):
        say(f"check: {line['check']}", **line)


RUNS = {"alike": run_alike, "end-of-text": run_end_of_text, "idle": run_idle, "checks": run_checks}

if __name__ == "__main__":
    torch.manual_seed(0)
    torch.set_num_threads(1)
    loaded = load_model(RandomWeights(CONFIG, seed=2), Precision("nvfp4"))
    for wanted in sys.argv[1:]:
        RUNS[wanted](loaded)
