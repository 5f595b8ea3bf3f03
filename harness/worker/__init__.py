"""One process a (model, backend, precision): loads once, measures the cells it is told, survives nothing it should not.

`client` is the parent's side, `__main__` the child's, `protocol` what they say to each other: one JSON object a line.
A crash, an out-of-memory kill or a hang ends the cell under way; the parent records it and starts a fresh worker.
"""
