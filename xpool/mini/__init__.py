"""The generated world: its scenes, how they are drawn, and the mini benchmarks made of them."""
