"""The embedded backbone: its recipe, its card, its weights.  Import the modules you need."""
