"""The results page: contents, tables and figures of the comparison."""
