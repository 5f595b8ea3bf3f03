"""What a run leaves behind, and how it is read again.

`RunWriter` creates the folder and appends records; `read_run` reads a folder, finished or not.
"""

from harness.record.read import Run, read_run
from harness.record.write import RunWriter

SCHEMA_VERSION = 1
__all__ = ["SCHEMA_VERSION", "Run", "RunWriter", "read_run"]
