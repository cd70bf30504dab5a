"""Methods that match dense features of a frozen network between the subject's photos and a scene.

dense       features on a grid over a photo: masks to cells, maps to pixels, nearest neighbours
common      which cells of photos without masks are the subject: what the photos share
subject     what is remembered of a subject, and where it is in a scene
method      features of any network as a method
unet        features of a diffusion model's U-Net
dinov3      features of DINOv3
"""
