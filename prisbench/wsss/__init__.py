"""Masks from image labels: weakly supervised segmentation of VOC
2012, COCO 2014 and folders like them."""
