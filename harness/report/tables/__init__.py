"""Tables of the report, one concept a file.

In: cells, variants or runs. Out: grid.Table. Nothing here renders.
"""
