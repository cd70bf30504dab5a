"""Concepts in the files that other programs read and write, and back.  Import the modules you
need.
"""
