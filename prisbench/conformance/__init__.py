"""Golden cases of the metric spec, and how another implementation compares with them."""
