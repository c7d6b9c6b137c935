"""What a checkout knows of itself: errors, params, paths, seeds, records, fingerprints."""
