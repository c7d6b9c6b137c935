"""Official layouts and annotation formats: one file a benchmark, each ending in ``BENCHMARK``."""
