"""Readers of public sets, one file each."""
