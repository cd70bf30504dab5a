"""Methods that stand on Segment Anything (Kirillov et al. 2023, arXiv 2304.02643) through transformers' ``SamModel``
and ``Sam2Model``.

frame     photos into the model's square and maps back, without torchvision
guided    the decoder's attention as PerSAM publishes it
model     a photo encoded once; prompts to masks
peaks     points of a map that are higher than all around them
persam    PerSAM and PerSAM-F as methods
matching  features point, masks follow, looks choose: as a method
"""
