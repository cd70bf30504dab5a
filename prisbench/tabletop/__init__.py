"""Tabletop, the generated world: drawing it, and the audit of its shortcuts.  Import the modules you need."""
