"""From a benchmark's official files to its manifest and its cached frames."""
