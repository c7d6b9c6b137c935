"""Get official files: where they are (sources), what is missing, download, unpack, or link."""
