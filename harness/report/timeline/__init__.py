"""The zoomable timeline of a cell: requests, phases, ranges, telemetry and experts hit on one clock, inside the page.

`data` reads the samples of one repeat, `blocks` keeps a long run small, `templates/timeline.js` draws it. Works offline.
"""

from harness.report.timeline.data import Timeline, timelines

__all__ = ["Timeline", "timelines"]
