"""Telemetry: readings through a simulated NVML, energy and clocks over a window, what a GPU refuses, files, the thread."""

import os
import time

import pytest

from harness.telemetry import store
from harness.telemetry.host import HostReader
from harness.telemetry.nvml import NvmlReader, open_nvml
from harness.telemetry.sample import Sample
from harness.telemetry.sampler import Sampler, Telemetry, open_sampler
from harness.telemetry.summary import Window, telemetry_metrics
from simulated_nvml import SimulatedNvml, steady

TENTH_NS = 100_000_000


def replay(*gpus: list[dict]) -> Telemetry:
    """Readings of simulated GPUs, exactly 0.1 s apart from 0 on."""
    reader = NvmlReader(SimulatedNvml(list(gpus)), pid=1)
    telemetry = Telemetry(rate_hz=10.0)
    for index in range(max(map(len, gpus))):
        for sample in reader.read():
            values = {name: getattr(sample, name) for name in Sample.__slots__} | {"time_ns": index * TENTH_NS}
            telemetry.samples.append(Sample(**values))
    telemetry.facts = reader.facts()
    return telemetry


def values(telemetry: Telemetry, window: Window) -> dict:
    return {name: metric["value"] for name, metric in telemetry_metrics(telemetry, window).items()}


SECOND = Window(start_ns=5 * TENTH_NS, end_ns=15 * TENTH_NS, output_tokens=200)


def test_energy_is_the_counter_over_the_window():
    found = values(replay(steady(21)), SECOND)
    assert found["gpu_energy_joules"] == pytest.approx(500.0) and found["mean_power_w"] == pytest.approx(500.0)
    assert found["joules_per_token"] == pytest.approx(2.5) and found["tokens_per_joule"] == pytest.approx(0.4)
    assert found["utilization_x_throughput"] == pytest.approx(0.95 * 200)
    assert found["median_sm_clock_mhz"] == 1980 and found["throttled_pct"] == 0.0


def test_window_between_two_readings_is_interpolated():
    window = Window(start_ns=TENTH_NS // 2, end_ns=10 * TENTH_NS + TENTH_NS // 2, output_tokens=10)
    assert values(replay(steady(12)), window)["gpu_energy_joules"] == pytest.approx(500.0)


def test_power_is_integrated_where_there_is_no_counter():
    rising = [row | {"power_w": 100.0 + 10 * index, "energy_j": None} for index, row in enumerate(steady(21))]
    assert values(replay(rising), SECOND)["gpu_energy_joules"] == pytest.approx(200.0)  # mean of 150 and 250 W over a second


def test_two_gpus_add_up_and_keep_their_own_series():
    telemetry = replay(steady(21), steady(21, sm_clock_mhz=1400))
    found = values(telemetry, SECOND)
    assert telemetry.devices == ["gpu0", "gpu1"] and found["gpu_energy_joules"] == pytest.approx(1000.0)
    assert found["min_sm_clock_mhz"] == 1400 and found["peak_device_memory_bytes"] == 60 * 10**9


def test_what_a_gpu_refuses_is_null_with_its_words():
    telemetry = replay(steady(21, temperature_c=None, energy_j=None, power_w=None))
    metrics = telemetry_metrics(telemetry, SECOND)
    for name in ("max_temperature_c", "gpu_energy_joules", "joules_per_token"):
        assert metrics[name]["value"] is None and "Not Supported" in metrics[name]["reason"]
    assert metrics["median_sm_clock_mhz"]["value"] == 1980


def test_cpu_has_no_energy_and_says_so():
    metrics = telemetry_metrics(Telemetry([Sample(SECOND.start_ns + 1, "cpu", utilization_pct=40.0)]), SECOND)
    assert metrics["mean_cpu_utilization_pct"]["value"] == 40.0
    assert "CPU" in metrics["joules_per_token"]["reason"]


def test_too_few_readings_give_no_figure():
    metrics = telemetry_metrics(replay(steady(3)), Window(0, TENTH_NS, 5))
    assert metrics["mean_power_w"]["value"] is None and "telemetry_rate_hz" in metrics["mean_power_w"]["reason"]


@pytest.mark.parametrize(
    ("visible", "names"),
    [
        pytest.param("1", ["Simulated 1"], id="by-number"),
        pytest.param("GPU-0001,GPU-0000", ["Simulated 1", "Simulated 0"], id="by-uuid-in-order"),
        pytest.param("0,9,1", ["Simulated 0"], id="stops-at-an-unknown-one-as-cuda-does"),
        pytest.param("", ["Simulated 0", "Simulated 1"], id="empty-is-not-set"),
    ],
)
def test_visible_gpus_are_those_of_cuda(monkeypatch, visible, names):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    facts = NvmlReader(SimulatedNvml([steady(1), steady(1)]), pid=1).facts()
    assert [fact.name for fact in facts] == names


def test_no_driver_is_no_reader():
    assert open_nvml(SimulatedNvml([steady(1)], has_driver=False)) is None
    assert open_nvml(SimulatedNvml([])) is None


def test_others_memory_is_told_from_ours():
    ours = os.getpid()
    mixed = steady(1, processes=[(ours, 20 * 10**9), (999_999_999, 3 * 10**9)])
    (sample,) = NvmlReader(SimulatedNvml([mixed]), pid=ours).read()
    assert sample.num_processes == 2 and sample.other_processes_bytes == 3 * 10**9


def test_in_a_container_one_unknown_process_is_ours():
    (sample,) = NvmlReader(SimulatedNvml([steady(1, processes=[(999_999_999, 20 * 10**9)])]), pid=os.getpid()).read()
    assert sample.other_processes_bytes == 0


def test_thread_reads_at_its_rate_and_stores_what_it_saw(tmp_path):
    sampler = open_sampler(os.getpid(), on_gpu=True, rate_hz=50.0, nvml=SimulatedNvml([steady(1000)]))
    with sampler:
        time.sleep(0.5)
    telemetry = sampler.telemetry
    # 25 readings are due; a busy machine may give fewer, never more than one beyond each end.
    assert 5 <= len(telemetry.of("gpu0")) <= 27 and len(telemetry.of("cpu")) == len(telemetry.of("gpu0"))
    store.write(tmp_path / "t.parquet", telemetry)
    assert store.read(tmp_path / "t.parquet").facts == telemetry.facts
    assert sorted(store.read(tmp_path / "t.parquet").samples, key=str) == sorted(telemetry.samples, key=str)


def test_the_last_reading_begins_after_the_end():
    class Slow:
        def read(self):
            began_ns = time.perf_counter_ns()
            time.sleep(0.05)
            return [Sample(began_ns, "cpu")]

        def facts(self):
            return []

    with Sampler([Slow()], 100.0) as sampler:
        time.sleep(0.02)  # the first reading is under way
        end_ns = time.perf_counter_ns()
    assert sampler.telemetry.samples[-1].time_ns >= end_ns


def test_a_reader_that_fails_ends_the_telemetry_and_not_the_measurement():
    class Broken:
        def read(self):
            raise OSError("the driver went away")

        def facts(self):
            return []

    with Sampler([Broken()], 100.0) as sampler:
        time.sleep(0.05)
    assert "the driver went away" in sampler.telemetry.problem


def test_host_reader_sees_a_busy_process_and_its_memory():
    reader = HostReader(os.getpid())
    reader.read()
    deadline = time.perf_counter() + 0.2
    while time.perf_counter() < deadline:
        pass
    (sample,) = reader.read()
    assert sample.utilization_pct > 0 and sample.rss_bytes > 10_000_000


def test_host_reader_of_an_ended_process_says_nothing():
    (sample,) = HostReader(2**22 + 1).read()
    assert sample.rss_bytes is None and sample.utilization_pct is None
