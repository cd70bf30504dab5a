"""A small network that tells whether two photos show the same thing: a vector for each thing that is shown."""
