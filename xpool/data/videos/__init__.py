"""One video file: open it safely, read its header, decode the chosen frames."""
