"""Tables of the report, one concept a file; each function takes cells, variants or runs and returns a grid.Table."""
