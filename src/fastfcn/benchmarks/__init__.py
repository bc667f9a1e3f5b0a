"""Benchmarks: what each claim of speed rests on."""
