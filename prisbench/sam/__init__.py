"""Methods that stand on Segment Anything (Kirillov et al. 2023, arXiv 2304.02643) through transformers' ``SamModel``.

frame     photos into the model's square and maps back, without torchvision
guided    the decoder's attention as PerSAM publishes it
model     a photo encoded once; prompts to masks
persam    PerSAM and PerSAM-F as methods
"""
