"""The attention page: its contents, its examples and its film strips."""
