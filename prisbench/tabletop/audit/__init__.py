"""The audit of Tabletop: what could give a subject away without knowing it.  Import the modules you need."""
