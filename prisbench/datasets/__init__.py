"""A dataset version is a folder of Parquet with two tables, ``subjects`` and ``queries`` (``docs/dataset.md``)."""
