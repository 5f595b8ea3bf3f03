"""The bench from end to end on a CPU: pocket-mixtral's layer, the reference, and fakes that are wrong on purpose."""

import json
import subprocess
import sys
from collections import Counter

import pytest
import torch
from click.testing import CliRunner

import fp4moe.pocket
import fp4moe.select
import kernel_bench_fakes as fakes
from commands import assert_refused, command, environment
from harness.cli.kernels_bench import bench
from harness.kernel_bench import ceilings as measured
from harness.kernel_bench import check, quality
from harness.kernel_bench.results import read_bench
from harness.kernel_bench.rows import COLUMNS, REFERENCE_LABEL, validate
from kernel_bench_rows import row as invented_row


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Small ceilings and few scored tokens: what is tested is the record, not the figures. torch's state is put back."""
    monkeypatch.setitem(measured.READ_BYTES, "cpu", 2**22)
    monkeypatch.setitem(measured.PRODUCT_SIZE, "cpu", 128)
    monkeypatch.setattr(quality, "MAX_TOKENS", 512)
    text = fp4moe.pocket.heldout_text()[:20_000]
    monkeypatch.setattr(fp4moe.pocket, "heldout_text", lambda: text)
    precision, grad = torch.get_float32_matmul_precision(), torch.is_grad_enabled()
    yield
    torch.set_float32_matmul_precision(precision)
    torch.set_grad_enabled(grad)


def run_bench(folder, *arguments, model="pocket-mixtral", code=0):
    """The rows, through the command."""
    asked = ["--model", model, "--out", str(folder), "--repeats", "3", "--copies", "2", *map(str, arguments)]
    done = CliRunner().invoke(bench, asked, catch_exceptions=False)
    assert done.exit_code == code, done.output
    return read_bench(folder).rows


def with_table(monkeypatch, *functions, **changes):
    rows = tuple(fakes.implementation(function, **changes) for function in functions)
    monkeypatch.setattr(fp4moe.select, "IMPLEMENTATIONS", rows)


def test_the_reference_runs_on_a_cpu_and_says_what_its_speed_is_not(tmp_path):
    rows = run_bench(tmp_path / "b", "--tokens", "1,3", "--precision", "nvfp4-a16")
    assert [row["tokens"] for row in rows] == [1, 3]
    for row in rows:
        assert (row["status"], row["kernel"], row["label"]) == ("ok", "reference", REFERENCE_LABEL)
        assert row["passed"] and 0 < row["relative_error"] <= row["error_bound"]
        assert row["us_median"] > 0 and row["repeats"] == len(row["us_samples"]) == 3
        assert row["ratio_to_limit"] == pytest.approx(row["us_median"] / row["limit_us"])
        assert row["perplexity_within_tolerance"] and row["perplexity"] == row["perplexity_reference_perplexity"]
        assert row["perplexity_bf16_perplexity"] > 1
    assert rows[0]["experts_hit"] == 2


def test_the_folder_holds_record_table_and_plots(tmp_path):
    folder = tmp_path / "b"
    run_bench(folder, "--tokens", "2", "--precision", "mxfp4-a16", "--routing", "hot70")
    assert {p.name for p in folder.iterdir()} == {"bench.json", "rows.jsonl", "table.md", "roofline.png", "latency.png"}
    info = json.loads((folder / "bench.json").read_text())
    assert info["provenance"]["kernel_sources_sha256"] and "outside: the router's product" in info["timed_region"]
    assert info["ceilings"]["read_pattern"] == "sum of float32" and info["gpu_state_before"] == {"reason": "no GPU"}
    assert {"name": "triton-grouped", "format": "mxfp4-a16"}.items() <= info["absent"][-1].items()
    assert "MXFP4 x BF16" in (folder / "table.md").read_text()
    for name in ("roofline", "latency"):
        assert (folder / f"{name}.png").read_bytes().startswith(b"\x89PNG")


def test_plots_are_drawn_again_from_the_rows(tmp_path):
    folder = tmp_path / "b"
    run_bench(folder, "--tokens", "1,2", "--precision", "nvfp4-a16")
    before = (folder / "latency.png").read_bytes()
    for name in ("latency.png", "roofline.png", "table.md"):
        (folder / name).unlink()
    done = CliRunner().invoke(bench, ["--render", str(folder)], catch_exceptions=False)
    assert done.exit_code == 0 and "reference" in done.output
    assert (folder / "latency.png").read_bytes() == before


@pytest.mark.parametrize(
    ("function", "words"),
    [
        pytest.param(fakes.forgets_router_weights, "over the bound", id="router-weights-forgotten"),
        pytest.param(fakes.swallows_nan, "NaN in x must give NaN", id="nan-swallowed"),
        pytest.param(fakes.one_token_wrong, "100 timed tokens: relative error", id="one-token-of-a-hundred-in-the-timed-run"),
        pytest.param(fakes.raises, "CUDA error 9", id="raises"),
    ],
)
def test_a_wrong_kernel_gets_no_speed(tmp_path, monkeypatch, function, words):
    with_table(monkeypatch, fakes.right, function)
    rows = run_bench(tmp_path / "b", "--tokens", "100", "--precision", "nvfp4-a16")
    good, wrong = rows
    assert good["status"] == "ok" and good["interleaved_with"] == []
    assert wrong["status"] == "failed check" and wrong["passed"] is False and words in wrong["reason"]
    assert wrong["us_median"] is wrong["us_samples"] is wrong["weight_gb_s"] is wrong["ratio_to_limit"] is None
    assert function.__name__ + ", failed check" in (tmp_path / "b" / "table.md").read_text()


def test_out_of_memory_at_one_count_is_a_row_and_the_rest_goes_on(tmp_path, monkeypatch):
    with_table(monkeypatch, fakes.right, fakes.out_of_memory_at_128)
    rows = run_bench(tmp_path / "b", "--tokens", "64,128,256", "--precision", "nvfp4-a16")
    found = {(row["kernel"], row["tokens"]): row["status"] for row in rows}
    assert found["out_of_memory_at_128", 128] == "out of memory"
    assert Counter(found.values()) == {"ok": 5, "out of memory": 1}


@pytest.mark.parametrize(
    ("pack", "status", "words"),
    [
        pytest.param("pack_refuses", "error", "packing raised Fp4MoeError: scales below", id="layout-that-cannot-be-made"),
        pytest.param("pack_out_of_memory", "out of memory", "packing 2 copies", id="copies-that-do-not-fit"),
        pytest.param("no_such_function", "error", "cannot be imported", id="code-that-is-not-there"),
    ],
)
def test_a_layout_that_cannot_be_packed_stops_its_own_kernels_only(tmp_path, monkeypatch, pack, status, words):
    tiles = fakes.implementation(fakes.right, name="tiles", layout="tiles", pack=f"kernel_bench_fakes:{pack}")
    other = fakes.implementation(fakes.right, name="mine", layout="mine", pack="kernel_bench_fakes:pack_in_tiles")
    monkeypatch.setattr(fp4moe.select, "IMPLEMENTATIONS", (tiles, other))
    stopped, good = run_bench(tmp_path / "b", "--tokens", "3", "--precision", "nvfp4-a16")
    assert (stopped["kernel"], stopped["status"], stopped["passed"]) == ("tiles", status, None)
    assert words in stopped["reason"] and stopped["us_median"] is None
    assert (good["kernel"], good["status"]) == ("mine", "ok")


def test_kernels_of_one_count_are_timed_in_turn(tmp_path, monkeypatch):
    with_table(monkeypatch, fakes.right, fakes.out_of_memory_at_128)
    rows = run_bench(tmp_path / "b", "--tokens", "4", "--precision", "nvfp4-a16", "--precision", "mxfp4-a16")
    assert [len(row["interleaved_with"]) for row in rows] == [3, 3, 3, 3]


def test_a_count_beyond_a_kernels_limit_is_a_row_that_says_so(tmp_path, monkeypatch):
    with_table(monkeypatch, fakes.right, max_slots=64)
    rows = run_bench(tmp_path / "b", "--tokens", "32,33", "--precision", "nvfp4-a16")
    assert [row["status"] for row in rows] == ["ok", "not run"]
    assert "at most 32 tokens" in rows[1]["reason"]


def test_nothing_measured_ends_with_the_reasons(tmp_path, monkeypatch):
    from harness.errors import NothingMeasuredError

    with_table(monkeypatch, fakes.raises)
    with pytest.raises(NothingMeasuredError, match="CUDA error 9"):
        run_bench(tmp_path / "b", "--tokens", "1", "--precision", "nvfp4-a16")


def test_check_only_times_nothing(tmp_path):
    rows = run_bench(tmp_path / "b", "--tokens", "5", "--precision", "nvfp4-a16", "--check-only")
    assert rows[0]["status"] == "checked" and rows[0]["passed"] and rows[0]["us_median"] is None


@pytest.mark.parametrize("precision", ["nvfp4-a8", "nvfp4-a4", "fp8-a8", "bf16-a16"])
def test_other_formats_run_and_pass_their_check(tmp_path, precision):
    """8 and 4 bit activations refuse NaN by name, which is no failure."""
    rows = run_bench(tmp_path / "b", "--tokens", "7", "--precision", precision)
    assert rows[0]["status"] == "ok" and rows[0]["relative_error"] <= rows[0]["error_bound"]


def test_json_is_one_document_on_standard_output(tmp_path):
    done = CliRunner().invoke(
        bench,
        ["--model", "pocket-mixtral", "--tokens", "1", "--precision", "nvfp4-a16", "--out", str(tmp_path / "b"), "--json"],
        catch_exceptions=False,
    )
    found = json.loads(done.stdout)
    assert found["rows"][0]["kernel"] == "reference" and found["bench"]["request"]["tokens"] == [1]


def test_peers_that_are_not_installed_say_so(tmp_path):
    run_bench(tmp_path / "b", "--tokens", "1", "--precision", "nvfp4-a16", "--peers", "vllm-marlin,humming")
    absent = {one["name"]: one["reason"] for one in read_bench(tmp_path / "b").info["absent"]}
    assert absent["vllm-marlin"] == absent["humming"] == "needs a CUDA device, this machine has none"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        pytest.param(["--kernel", "fast"], ["--kernel", "cuda-fragments-decode", "'fast'"], id="kernel"),
        pytest.param(["--precision", "fp3-a16"], ["--precision", "nvfp4-a16", "'fp3-a16'"], id="precision"),
        pytest.param(["--routing", "skewed"], ["--routing", "hot70", "'skewed'"], id="routing"),
        pytest.param(["--model", "mixtral-9x9b"], ["--model", "pocket-mixtral", "'mixtral-9x9b'"], id="model"),
        pytest.param(["--peers", "sglang"], ["--peers", "vllm-marlin", "'sglang'"], id="peer"),
        pytest.param(["--tokens", "1,x"], ["--tokens", "'1,x'"], id="tokens"),
        pytest.param(["--tokens", "0"], ["--tokens", "from 1 to"], id="no-tokens"),
    ],
)
def test_an_option_that_cannot_be_carried_out_lists_what_is_allowed(tmp_path, arguments, words):
    from harness.errors import UsageError

    asked = ["--model", "pocket-mixtral", "--out", str(tmp_path / "b"), *arguments]
    with pytest.raises(UsageError) as refused:
        CliRunner().invoke(bench, asked, catch_exceptions=False)
    assert all(word in str(refused.value) for word in words)
    assert not (tmp_path / "b").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_mixtral_on_a_cpu_is_refused(tmp_path):
    from harness.errors import UsageError

    with pytest.raises(UsageError, match="no GPU"):
        run_bench(tmp_path / "b", "--tokens", "1", model="mixtral-8x7b")
    assert not (tmp_path / "b").exists()


def test_a_folder_that_is_in_use_is_not_written_over(tmp_path):
    from harness.errors import StorageError

    run_bench(tmp_path / "b", "--tokens", "1", "--precision", "nvfp4-a16")
    with pytest.raises(StorageError, match="already holds a bench"):
        run_bench(tmp_path / "b", "--tokens", "1", "--precision", "nvfp4-a16")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        pytest.param({"tokens": "4"}, "tokens: must be", id="type"),
        pytest.param({"tokens": True}, "tokens: must be", id="bool-is-no-int"),
        pytest.param({"status": "fine"}, "status: must be one of", id="status"),
        pytest.param({"passed": False}, "output is wrong has no speed", id="wrong-and-fast"),
        pytest.param({"status": "failed check"}, "exactly when its status", id="speed-without-ok"),
        pytest.param({"us_median": None}, "exactly when its status", id="ok-without-speed"),
        pytest.param({"speed": 3}, "no such column", id="unknown-column"),
    ],
)
def test_a_row_that_breaks_the_schema_is_refused(changes, words):
    good = invented_row("triton-grouped", 4, 300.0)
    assert validate(good) is good
    with pytest.raises(ValueError, match=words):
        validate(good | changes)
    with pytest.raises(ValueError, match="missing"):
        validate({name: value for name, value in good.items() if name != "tokens"})
    assert all(column.meaning for column in COLUMNS.values())


def test_the_error_is_that_of_the_worst_token():
    right = torch.ones(50, 8)
    found = right.clone()
    found[7] *= 1.5
    case = check.Case("case", right, None)
    verdict = check.judge(found, right, case, bound=0.1)
    assert not verdict.passed and verdict.relative_error == pytest.approx(0.5)
    assert check.judge(right[:, :4], right, case, bound=0.1).reason.startswith("case: output must be (50, 8)")


def test_a_host_without_pydantic_pandas_and_matplotlib_can_measure(tmp_path):
    """What a GPU host has is torch, click, rich and little else; plots are then drawn elsewhere."""
    folder = tmp_path / "b"
    asked = ["kernels", "bench", "--model", "pocket-mixtral", "--tokens", "1", "--precision", "nvfp4-a16", "--copies", "1"]
    code = f"""
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("pydantic", "pandas", "pyarrow", "matplotlib", "scipy"):
            raise ImportError(f"No module named {{name!r}}")
sys.meta_path.insert(0, Blocked())
from harness.cli.main import cli
cli.main({[*asked, "--out", str(folder)]!r}, standalone_mode=False)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment(), timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "--render" in done.stderr and read_bench(folder).rows[0]["status"] == "ok"
    assert not (folder / "roofline.png").exists() and (folder / "table.md").exists()


def test_the_command_line_refuses_without_a_traceback(tmp_path):
    arguments = command("kernels", "bench", "--model", "nowhere", "--out", tmp_path / "b")
    done = subprocess.run(arguments, capture_output=True, text=True, env=environment(), timeout=120)
    assert_refused(done, "--model", "pocket-mixtral")
