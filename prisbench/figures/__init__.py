"""Figures for a paper: PDF, SVG and PNG of a leaderboard, in the widths of common templates."""
