"""Methods that change a similarity matrix before it is ranked, one file a method."""
