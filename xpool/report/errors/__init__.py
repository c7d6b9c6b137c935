"""The errors page: where X-Pool loses, its worst queries, hubs, and misses that are none."""
