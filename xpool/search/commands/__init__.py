"""The commands ``xpool search``, ``xpool index`` and ``xpool demo``; they import when they run."""
