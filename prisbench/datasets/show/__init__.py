"""A look at a dataset: a sheet and a page."""
