"""Stop texts: where an answer ends early, and how much of it may be shown while a stop text could still be coming.

In: text piece by piece. Out: the text that is safe to show, and whether a stop text was met. The stop text itself is left
out.
"""


class StopWatch:
    """Watches one answer for any of `stops`."""

    def __init__(self, stops: tuple[str, ...]) -> None:
        self._stops = stops
        self._held = ""
        self.is_met = False

    def add(self, text: str) -> str:
        """What may be shown now; after a stop text was met, nothing more."""
        if self.is_met:
            return ""
        self._held += text
        found = [place for place in (self._held.find(stop) for stop in self._stops) if place >= 0]
        if found:
            self.is_met = True
            return self._release(min(found))
        return self._release(len(self._held) - self._num_undecided())

    def rest(self) -> str:
        """What was held back for a stop text that did not come."""
        return "" if self.is_met else self._release(len(self._held))

    def _num_undecided(self) -> int:
        """Length of the longest end of the text that begins a stop text."""
        longest = max((len(stop) for stop in self._stops), default=1) - 1
        sizes = range(min(longest, len(self._held)), 0, -1)
        return next((n for n in sizes if any(stop.startswith(self._held[-n:]) for stop in self._stops)), 0)

    def _release(self, length: int) -> str:
        shown, self._held = self._held[:length], self._held[length:]
        return shown
