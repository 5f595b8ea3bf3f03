"""The layout that keeps `fp4moe` and `harness` installable beside transformers and vLLM, and imports light."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

HEAVY = ("torch", "pandas", "matplotlib", "vllm", "transformers")


def test_no_directory_named_kernels_is_a_package():
    assert not [p for p in Path(".").rglob("kernels/__init__.py") if not p.parts[0].startswith(".venv")]


def test_no_init_files_in_tests():
    assert not list(Path("tests").rglob("__init__.py"))


def test_fp4moe_never_imports_harness():
    offenders = [
        p for p in Path("kernels/fp4moe").rglob("*.py") if "import harness" in p.read_text() or "from harness" in p.read_text()
    ]
    assert offenders == []


def test_only_backends_import_fp4moe():
    offenders = [
        p
        for p in Path("harness").rglob("*.py")
        if "backends" not in p.parts and ("import fp4moe" in p.read_text() or "from fp4moe" in p.read_text())
    ]
    assert offenders == []


@pytest.mark.parametrize(
    "statement",
    [
        "import harness",
        "import harness.cli.main",
        "import harness.run",
        "import harness.scenario",
        "import harness.report",
        "import harness.project.projection",
        "import harness.claims.judge",
        "import harness.advise.show",
    ],
)
def test_import_is_light(statement):
    code = f"{statement}; import sys; print([m for m in {HEAVY} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_mixtral_imports_from_the_root_of_the_checkout():
    sizes = (
        "hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1, num_key_value_heads=1, vocab_size=8"
    )
    code = f"from transformers import MixtralForCausalLM, MixtralConfig; MixtralForCausalLM(MixtralConfig({sizes}))"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path("."), capture_output=True)


def test_wheel_holds_harness_and_fp4moe_and_the_shipped_model(tmp_path):
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "-w",
        str(tmp_path),
        ".",
    ]
    subprocess.run(command, check=True, capture_output=True)
    names = zipfile.ZipFile(next(tmp_path.glob("*.whl"))).namelist()
    top = {name.split("/")[0] for name in names if ".dist-info/" not in name}
    assert top == {"harness", "fp4moe"}
    assert "fp4moe/pocket/data/model.safetensors" in names and "harness/data/gpus.yaml" in names
    assert "harness/data/calibration.json" in names and "harness/data/published.yaml" in names
