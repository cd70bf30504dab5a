"""Photos and masks: reading, shapes, drawing.  Import the modules you need."""
