"""An engine that tells its requests' phases as ranges: waiting, prefill, decode; they overlap from request to request.

In: an engine. Out: an object that is used in its place. Phases go to the sinks that take overlapping ranges (NVTX's start and
end); where nothing listens, one comparison a call. Times nothing itself.
"""

from fp4moe import ranges


class Watched:
    """`submit`, `cancel`, `step`, `has_work` of the engine, with a range a phase of each request."""

    def __init__(self, engine) -> None:
        self._engine = engine
        self._open: dict[str, ranges.Started] = {}

    @property
    def has_work(self) -> bool:
        return self._engine.has_work

    def submit(self, request) -> None:
        self._engine.submit(request)
        if ranges.is_on():
            self._open[request.request_id] = ranges.start("request: until first token", tokens=len(request.prompt_ids))

    def cancel(self, request_id: str) -> None:
        self._engine.cancel(request_id)
        self._end(request_id)

    def step(self):
        result = self._engine.step()
        if self._open:
            self._follow(result)
        return result

    def _follow(self, result) -> None:
        if result.phase == "prefill":
            for request_id, _ in result.emitted:
                self._end(request_id)
                if request_id not in result.finished:
                    self._open[request_id] = ranges.start("request: decode")
        for request_id in result.finished:
            self._end(request_id)

    def _end(self, request_id: str) -> None:
        started = self._open.pop(request_id, None)
        if started is not None:
            ranges.end(started)
