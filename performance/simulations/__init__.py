"""How often intervals cover, tests reject, and comparisons find, in simulated worlds."""
