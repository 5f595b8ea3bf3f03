"""What is sent to a backend: prompts and arrival times, the same for every backend and precision.

Seeded: the same scenario and seed give the same requests at the same scheduled times.
"""
