"""Models that give masks by themselves: of what a word names, or of what a masked photo shows.

answers    masks with scores to a prediction and to candidates
seggpt     SegGPT, shown photos with masks
canvas     a photo and a scene side by side
sam3       SAM 3, asked for a noun, or shown a photo on the same canvas
"""
