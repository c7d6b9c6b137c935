"""Modules that all others share: errors, params, paths, seeds, records, fingerprints."""
