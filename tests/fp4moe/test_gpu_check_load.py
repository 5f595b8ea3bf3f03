"""The check of loading, in small: every layout's lines, what is judged, and host memory bounded by two shards."""

import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from fp4moe.checkpoint import open_checkpoint
from fp4moe.runtime import MixtralConfig
from fp4moe.runtime.gpu.checks import host, load
from fp4moe.runtime.gpu.checks.random_folder import config_json, write_folder

CPU = torch.device("cpu")
CONFIG = MixtralConfig(
    vocab_size=100, hidden_size=64, intermediate_size=96, num_layers=2, num_heads=4, num_kv_heads=2, head_dim=16,
    num_experts=4, top_k=2, max_positions=64, tie_word_embeddings=False,
)  # fmt: skip
SMALL = {"hidden_size": 32, "intermediate_size": 32, "vocab_size": 16, "num_heads": 2, "num_kv_heads": 1, "head_dim": 16}


@pytest.mark.parametrize("case", load.CASES, ids=lambda case: case.layout)
def test_a_folder_is_valid_and_of_files_no_larger_than_asked_for(case, tmp_path):
    files = write_folder(tmp_path, CONFIG, case.layout, device=CPU, shard_bytes=60_000)
    checkpoint = open_checkpoint(tmp_path)
    checkpoint.validate()
    read = MixtralConfig.from_dict(config_json(CONFIG))
    assert checkpoint.storage == case.layout and read == replace(CONFIG, bos_token_id=None, eos_token_ids=())
    assert len(files) > 2 and {name.parent for name in files} == {tmp_path}


def test_lines_of_every_layout(tmp_path, monkeypatch):
    monkeypatch.setattr(load, "_WARM_UP", SMALL)
    cases = [replace(case, shard_bytes=60_000, layers=1) for case in load.CASES]
    lines = list(load.check_loading(CPU, tmp_path, num_layers=2, config=CONFIG, cases=cases))
    assert len(lines) == 3 * len(load.CASES) and not list(tmp_path.iterdir()), "nothing is left"
    for cold, warm, same in zip(lines[::3], lines[1::3], lines[2::3], strict=True):
        assert (cold["files_are"], warm["files_are"]) == ("cold", "warm")
        assert cold["least_share"] == load.LEAST_SHARE and warm["least_share"] is None
        assert cold["bytes"] == warm["bytes"] > 100_000 and cold["gb_per_s"] > 0 and cold["plain_gb_per_s"] > 0
        assert cold["file_system"] == host.file_system(tmp_path)
        assert same["passed"] and len(same["sha256"]) == 64


@pytest.mark.parametrize(
    ("seconds", "grown", "is_cold", "is_cpu", "passed"),
    [
        pytest.param(1.4, 100, True, True, True, id="right"),
        pytest.param(1.5, 100, True, True, False, id="slower-than-seven-tenths-of-the-disk"),
        pytest.param(9.0, 100, False, True, True, id="a-warm-load-has-no-limit-of-time"),
        pytest.param(1.0, 2999, False, True, True, id="the-model-and-two-files-on-a-cpu"),
        pytest.param(1.0, 3000, False, True, False, id="too-much-memory"),
        pytest.param(1.0, 100, True, False, False, id="pinned-blocks-count"),
    ],
)
def test_what_passes(seconds, grown, is_cold, is_cpu, passed):
    line = {"seconds": seconds, "host_growth_bytes": grown, "model_bytes": 1000}
    about = {"bytes": 10**9, "largest_file_bytes": 1000}
    assert load._judged(line, about, 1.0, is_cold=is_cold, is_cpu=is_cpu)["passed"] is passed


def test_the_default_sizes():
    layers = [case.sized(load.MIXTRAL_8X7B, load.LAYERS).num_layers for case in load.CASES]
    assert layers == [7, 2, 2, 1, 1]


def test_growth_of_memory_is_what_a_call_holds_at_most():
    def call():
        return len(bytearray(b"x") * 50_000_000)

    result, grown = host.with_peak_bytes(call)
    assert result == 50_000_000 and 40_000_000 < grown < 150_000_000


def test_dropped_files_still_hold_their_bytes_and_are_read_whole(tmp_path):
    (tmp_path / "a").write_bytes(b"abc" * 1000)
    host.drop_from_cache([tmp_path / "a"])
    assert host.plain_read_seconds([tmp_path / "a"]) > 0 and (tmp_path / "a").read_bytes() == b"abc" * 1000


def test_the_file_system_is_that_of_the_nearest_mount():
    assert host.file_system(Path("/proc/self")) == "proc"


LOADS = """
    import sys
    from pathlib import Path
    from fp4moe.precision import Precision
    from fp4moe.runtime.gpu.checks.host import with_peak_bytes
    from fp4moe.runtime.load import load_model
    small, large = map(Path, sys.argv[1:])
    load_model(small, Precision("nvfp4"))
    model, grown = with_peak_bytes(lambda: load_model(large, Precision("nvfp4")))
    print(grown - sum(model.memory_bytes().values()))
"""


def test_loading_takes_under_two_shards_beside_the_model(tmp_path):
    """A process of its own: memory that earlier tests gave back would hide what is taken."""
    # 8 layers of 28 MB in files of 64 MB, the ratio of Mixtral's layers to files of 2 GB.
    config = replace(CONFIG, hidden_size=512, intermediate_size=4096, num_experts=8, num_layers=8)
    folders = tmp_path / "small", tmp_path / "large"
    for folder, sizes in zip(folders, (CONFIG, config), strict=True):
        folder.mkdir()
        files = write_folder(folder, sizes, "modelopt-nvfp4", device=CPU, shard_bytes=64 * 2**20)
    assert len(files) > 3
    command = [sys.executable, "-c", textwrap.dedent(LOADS), *map(str, folders)]
    environment = {"PYTHONPATH": str(Path("kernels").resolve())}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert int(done.stdout) < load.MOST_SHARDS * max(file.stat().st_size for file in files)
