"""CLIPSeg (Lüddecke and Ecker 2022, arXiv 2112.10003) through transformers' ``CLIPSegForImageSegmentation``.

prompts   photos of a subject as visual prompts; what a subject looks like in words
model     the network and its processor; photos and prompts to maps
method    CLIPSeg as a method, asked by the query, the class word, a description or the photos
"""
