"""Tables, figures and pages: what every page shares, and a folder for each."""
