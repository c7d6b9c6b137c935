"""CLIP behind one interface (one file a library, each ending in ``ENCODER``), and embeddings."""
