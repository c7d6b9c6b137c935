"""Text and image towers behind one interface: one file a library, each ending in ``ENCODER``."""
