"""The tree itself: layers, documentation, packaging, units, benchmarks."""
