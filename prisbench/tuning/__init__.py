"""Every method's settings chosen in the same way: so many, drawn by lot, on the same validation queries."""
