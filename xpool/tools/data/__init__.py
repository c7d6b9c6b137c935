"""Commands about official files and benchmarks of one's own."""
