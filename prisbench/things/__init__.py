"""A small network that finds the things of a scene, whatever they are: one region a thing."""
