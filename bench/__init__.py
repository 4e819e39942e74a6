"""Benchmarks: each measures a ratio against a floor that runs beside it, on real servers, and writes its numbers."""
