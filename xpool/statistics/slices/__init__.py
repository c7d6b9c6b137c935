"""Figures of the queries that have something in common: long captions, videos with cuts, ..."""
