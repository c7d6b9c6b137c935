"""The site that all pages of a report make: looks, figures to download from, the index page."""
