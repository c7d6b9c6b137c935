"""The ablations page: curves, tables and figures of the studies."""
