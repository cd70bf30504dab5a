"""What is remembered of a subject: learning it, controls for it, keeping it on disk.  Import the
modules you need.
"""
