"""From ranks to intervals, tests and verdicts."""
