"""What the parts cost and what they are worth, measured.  Import the modules you need."""
