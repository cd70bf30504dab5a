"""What could be scored with parts of the truth in hand: measured beside the methods, never through their protocol."""
