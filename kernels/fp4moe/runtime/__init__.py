"""A whole Mixtral decoder around the MoE operations, and the engine that serves requests with it.

Reading order: config -> names -> weights -> experts -> random_weights -> choices (what will run) -> load (files to weights);
layers -> kv_cache -> attention -> dispatch -> model (weights to logits); sampling -> request -> engine (logits to answers),
gpu/ (the same on a GPU) -> engines (which one here); recorder, memory, peak and verify say what happened, what it took and
whether it was right.
"""

from fp4moe.runtime.choices import moe_shape
from fp4moe.runtime.config import MIXTRAL_8X7B, MixtralConfig
from fp4moe.runtime.engine import Engine
from fp4moe.runtime.engines import EngineChoice, choose_engine, engine_here, make_engine
from fp4moe.runtime.load import load_model
from fp4moe.runtime.memory import predict_memory_bytes
from fp4moe.runtime.model import MixtralModel
from fp4moe.runtime.peak import peak_step_bytes
from fp4moe.runtime.random_weights import RandomWeights
from fp4moe.runtime.recorder import RoutingRecorder
from fp4moe.runtime.request import Request, StepResult
from fp4moe.runtime.sampling import Sampling
from fp4moe.runtime.verify import Check, check_moe_layer, checked_layers, checked_tokens

__all__ = [
    "MIXTRAL_8X7B",
    "Check",
    "Engine",
    "EngineChoice",
    "MixtralConfig",
    "MixtralModel",
    "RandomWeights",
    "Request",
    "RoutingRecorder",
    "Sampling",
    "StepResult",
    "check_moe_layer",
    "checked_layers",
    "checked_tokens",
    "choose_engine",
    "engine_here",
    "load_model",
    "make_engine",
    "moe_shape",
    "peak_step_bytes",
    "predict_memory_bytes",
]
