"""A small valid scenario as plain data and as a file, for tests to change."""

import copy
from pathlib import Path

import yaml

SCENARIO = {
    "name": "t",
    "models": ["pocket-mixtral"],
    "precisions": ["bf16", "nvfp4"],
    "workloads": [
        {
            "name": "single",
            "prompt_tokens": 16,
            "output_tokens": 4,
            "num_requests": 2,
            "arrival": {"kind": "closed", "concurrency": 1},
        }
    ],
    "quality": {"window_tokens": 64, "max_tokens": 512, "kl_tokens": 256},
    "repeats": 1,
}


def scenario_data() -> dict:
    """A fresh copy."""
    return copy.deepcopy(SCENARIO)


def write_scenario(folder: Path, data: object) -> Path:
    """The data as scenario.yaml in `folder`."""
    path = folder / "scenario.yaml"
    path.write_text(yaml.safe_dump(data, sort_keys=False), encoding="utf-8")
    return path
