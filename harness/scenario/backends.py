"""What a scenario may name as a backend: our runtime, vLLM, or any OpenAI-compatible server.

`- native` stands for `- {kind: native}`, `- vllm` for `- {kind: vllm}`. A backend has a name, by which cells and records
know it. `precisions` keeps it to some of the scenario's: patterns on precision ids, `nvfp4*`. Paths of machines belong into
the environment (HARNESS_VLLM_PYTHON, HARNESS_VLLM_PATH) rather than into a scenario that is shared.
"""

import fnmatch
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"
EngineArgument = str | int | float | bool | list[int]


class _Backend(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    name: str = Field("", pattern=NAME_PATTERN + "|^$", max_length=64, description="In cells and records; default: the kind")
    precisions: list[str] | None = Field(None, min_length=1, description="Patterns on precision ids; default: all")

    @model_validator(mode="before")
    @classmethod
    def _default_name(cls, data):
        if isinstance(data, dict) and not data.get("name") and isinstance(data.get("kind"), str):
            served = "-served" if data.get("mode") == "served" else ""
            return data | {"name": data["kind"] + served}
        return data

    @property
    def is_served(self) -> bool:
        """Whether requests go over HTTP."""
        return self.mode == "served"


class NativeBackendSpec(_Backend):
    """Our runtime: in the worker's own process, or behind `harness serve`, which the harness starts."""

    kind: Literal["native"]
    mode: Literal["offline", "served"] = Field("offline", description="served: over HTTP, with the load client")


class VllmBackendSpec(_Backend):
    """vLLM, started by the harness in its own environment: its engine driven directly, or `vllm serve`."""

    kind: Literal["vllm"]
    mode: Literal["offline", "served"] = Field("offline", description="served: over HTTP, with the load client")
    python: str | None = Field(None, description="A Python that has vLLM; default: HARNESS_VLLM_PYTHON")
    path: str | None = Field(None, description="A folder with vLLM unpacked, for PYTHONPATH; default: HARNESS_VLLM_PATH")
    layout: Literal["modelopt-nvfp4", "ct-nvfp4"] = Field("modelopt-nvfp4", description="How NVFP4 weights are exported")
    routing: bool = Field(True, description="Collect routed experts in quality cells, where this vLLM can")
    args: dict[str, EngineArgument] = Field({}, description="Engine arguments as vLLM names them: {enforce_eager: true}")
    env: dict[str, str] = Field({}, description="Environment variables of the vLLM process")


class OpenAIBackendSpec(_Backend):
    """A server that somebody else runs. It has one model in one precision, which you state."""

    kind: Literal["openai"]
    name: str = Field(pattern=NAME_PATTERN, max_length=64)
    url: str = Field(pattern=r"^https?://", description="Up to and with /v1: http://host:8000/v1")
    model: str | None = Field(None, description="Its name at the server; default: the only one that the server lists")
    precision: str | None = Field(None, description="Which of the scenario's it serves, as an id; default: the only one")
    for_model: str | None = Field(None, description="Which of the scenario's models it serves; default: the only one")
    api: Literal["completions", "chat"] = Field("completions", description="completions sends token ids, chat sends text")
    extra_body: dict[str, Any] = Field({"ignore_eos": True}, description="Fields sent with every request")
    api_key_env: str | None = Field(None, description="Name of the environment variable that holds the key")

    @property
    def is_served(self) -> bool:
        return True


BackendSpec = Annotated[NativeBackendSpec | VllmBackendSpec | OpenAIBackendSpec, Field(discriminator="kind")]


def backend_problems(backends: list, models: list[str], precision_ids: list[str]) -> list[str]:
    """Patterns that fit nothing, and what an `openai` backend leaves open: a server has one model in one precision."""
    problems = []
    known = ", ".join(precision_ids)
    for backend in backends:
        patterns = [backend.precision] if backend.kind == "openai" else backend.precisions or []
        for pattern in filter(None, patterns):
            if not fnmatch.filter(precision_ids, pattern):
                problems.append(f"backends: {backend.name}: precision {pattern!r} fits none of {known}")
        if backend.kind == "openai":
            problems += _server_problems(backend, models, precision_ids)
    return problems


def _server_problems(backend: OpenAIBackendSpec, models: list[str], precision_ids: list[str]) -> list[str]:
    problems = []
    if len(fnmatch.filter(precision_ids, backend.precision or "*")) > 1:
        problems.append(f"backends: {backend.name}: needs `precision`, the one of {', '.join(precision_ids)} that it serves")
    if backend.for_model is None and len(models) > 1:
        problems.append(f"backends: {backend.name}: needs `for_model`, the one of {', '.join(models)} that it serves")
    if backend.for_model is not None and backend.for_model not in models:
        problems.append(f"backends: {backend.name}: for_model {backend.for_model!r} is none of {', '.join(models)}")
    return problems


def serves(backend, model: str, precision_id: str) -> bool:
    """Whether the scenario asks this backend for this model in this precision."""
    if backend.kind == "openai":
        fits_precision = backend.precision is None or fnmatch.fnmatch(precision_id, backend.precision)
        return fits_precision and backend.for_model in (None, model)
    return backend.precisions is None or any(fnmatch.fnmatch(precision_id, pattern) for pattern in backend.precisions)
