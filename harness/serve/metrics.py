"""What `/metrics` shows, in Prometheus text: requests, tokens, latencies, engine steps.

In: events of the server. Out: the text. Names say their unit; a latency counts from when the request was read.
"""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class ServerMetrics:
    """Counters and histograms of one server, labelled with its model."""

    def __init__(self, model: str) -> None:
        self._registry = CollectorRegistry()
        self._labels = {"model_name": model}
        self.running = self._make(Gauge, "requests_running", "Sequences that hold a slot.")
        self.waiting = self._make(Gauge, "requests_waiting", "Sequences that wait for a slot.")
        self.prompt_tokens = self._make(Counter, "prompt_tokens", "Prompt tokens of accepted sequences.")
        self.output_tokens = self._make(Counter, "generation_tokens", "Tokens generated.")
        self.ttft = self._make(Histogram, "time_to_first_token_seconds", "From request read to first token.", buckets=SECONDS)
        self.itl = self._make(Histogram, "inter_token_latency_seconds", "Gap between tokens of a sequence.", buckets=SECONDS)
        self.e2el = self._make(Histogram, "request_latency_seconds", "From request read to last token.", buckets=SECONDS)
        self.kv_bytes = self._make(Gauge, "kv_cache_bytes", "Bytes reserved for keys and values of all slots.")
        self.weight_bytes = self._make(Gauge, "weight_bytes", "Bytes of the weights.")
        self._finished = self._make_by("requests_finished", "Sequences ended, by reason.", "reason")
        self._answers = self._make_by("http_responses", "HTTP answers, by status.", "status")
        self._steps = self._make_by("engine_steps", "Engine steps, by phase.", "phase")
        self._step_seconds = self._make_by("engine_step_seconds", "Time inside engine steps, by phase.", "phase")

    def finished(self, reason: str) -> None:
        self._finished.labels(**self._labels, reason=reason).inc()

    def answered(self, status: int) -> None:
        self._answers.labels(**self._labels, status=str(status)).inc()

    def stepped(self, step) -> None:
        """A step of the engine, from its StepResult."""
        self._steps.labels(**self._labels, phase=step.phase).inc()
        self._step_seconds.labels(**self._labels, phase=step.phase).inc((step.end_ns - step.start_ns) / 1e9)

    def text(self) -> bytes:
        """The whole page."""
        return generate_latest(self._registry)

    def _make(self, kind, name: str, words: str, **options):
        metric = kind(f"fp4moe_{name}", words, [*self._labels], registry=self._registry, **options)
        return metric.labels(**self._labels)

    def _make_by(self, name: str, words: str, label: str) -> Counter:
        return Counter(f"fp4moe_{name}", words, [*self._labels, label], registry=self._registry)
