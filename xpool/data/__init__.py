"""Read a benchmark's official files, and make its manifest and its cached frames of them."""
