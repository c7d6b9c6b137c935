"""Train all missing cells and run all trials side by side, on Ray."""
