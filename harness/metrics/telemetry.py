"""Power, utilisation, clocks and memory as the devices report them.

In: nothing. Out: TELEMETRY. wall = last token of all requests - first submission; samples = readings inside the wall; GPUs =
all that the run could see.
"""

from harness.metrics.metric import Metric

TELEMETRY = (
    Metric("mean_power_w", "W", "lower", "Mean power of all GPUs over the wall.", "gpu_energy_joules / wall"),
    Metric(
        "gpu_energy_joules",
        "J",
        "lower",
        "Energy of all GPUs over the wall: NVML's counter, else the integral of the sampled power.",
        "sum over GPUs of energy(end of wall) - energy(start of wall)",
    ),
    Metric(
        "joules_per_token",
        "J/token",
        "lower",
        "Energy of all GPUs an output token, prefill and waiting included.",
        "gpu_energy_joules / output tokens",
    ),
    Metric(
        "tokens_per_joule", "tokens/J", "higher", "Output tokens a joule, its inverse.", "output tokens / gpu_energy_joules"
    ),
    Metric(
        "mean_gpu_utilization_pct",
        "%",
        "none",
        "Share of time in which some kernel ran (NVML's utilisation): says nothing of how much of the GPU it used.",
        "mean over samples and GPUs of utilisation",
    ),
    Metric(
        "utilization_x_throughput",
        "tokens/s",
        "none",
        "NVML's utilisation times output throughput: the product that claims of 'busier is better' rank by.",
        "mean_gpu_utilization_pct / 100 * output tokens / wall",
    ),
    Metric("median_sm_clock_mhz", "MHz", "none", "Median SM clock.", "median over samples and GPUs"),
    Metric("min_sm_clock_mhz", "MHz", "none", "Lowest SM clock seen.", "min over samples and GPUs"),
    Metric("median_memory_clock_mhz", "MHz", "none", "Median memory clock.", "median over samples and GPUs"),
    Metric("max_temperature_c", "degC", "none", "Highest GPU temperature seen.", "max over samples and GPUs"),
    Metric(
        "throttled_pct",
        "%",
        "lower",
        "Share of samples in which power or heat held a GPU's clocks down.",
        "100 * samples with a power or thermal event reason / samples",
    ),
    Metric(
        "peak_device_memory_bytes",
        "bytes",
        "lower",
        "Most device memory in use by all processes, as NVML counts it; sum of each GPU's peak.",
        "sum over GPUs of max over samples of memory used",
    ),
    Metric(
        "reserved_bytes",
        "bytes",
        "lower",
        "Device memory that PyTorch's allocator holds, after the measurement.",
        "torch.cuda.memory_reserved",
    ),
    Metric(
        "allocator_slack_bytes",
        "bytes",
        "lower",
        "Device memory that PyTorch's allocator holds and no tensor uses, after the measurement.",
        "reserved - allocated",
    ),
    Metric(
        "graph_pool_bytes",
        "bytes",
        "lower",
        "Device memory in the private pools of CUDA graphs, activations inside them included.",
        "sum of the allocator's segments of private pools",
    ),
    Metric(
        "outside_allocator_bytes",
        "bytes",
        "lower",
        "Device memory of the process that PyTorch's allocator does not hold: context, kernels, library workspaces.",
        "peak_device_memory_bytes - other processes - reserved",
    ),
    Metric(
        "other_processes_bytes",
        "bytes",
        "lower",
        "Most device memory of other processes while requests ran.",
        "max over samples of memory of processes that are not ours",
    ),
    Metric(
        "mean_cpu_utilization_pct",
        "%",
        "none",
        "CPU time of the worker and its children over the time of all cores.",
        "mean over samples of 100 * CPU seconds / (seconds * cores)",
    ),
)
