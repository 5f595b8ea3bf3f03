"""What a cell left behind, turned into figures: raw samples and routing arrays in, record values out.

Collectors read numpy arrays; they import no torch and run nothing.
"""
