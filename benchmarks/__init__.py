"""Ours beside a reference in one run, as ratios: ``python -m benchmarks.NAME --out FILE.json``."""
