"""Commands that no stage of the pipeline runs."""
