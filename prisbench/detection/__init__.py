"""Methods that find a box first and cut the thing out of it with Segment Anything.

boxes             boxes of a photo with their scores, and which of them say the same
method            a detector and Segment Anything as one method
grounding_dino    a detector that reads the text
owlv2             a detector that is shown the subject's photos
"""
