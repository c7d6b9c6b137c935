"""The controls that X-Pool is measured against: one file a method, each ending in ``METHOD``."""
