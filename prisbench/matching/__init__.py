"""Methods that match dense features of a frozen network between the subject's photos and a scene.

dense       features on a grid over a photo: masks to cells, maps to pixels, nearest neighbours
cosegmentation   which cells of photos without masks are the subject: what the photos share
memory      what is remembered of a subject, and what in a scene is like it
method      features of any network as a method
unet        features of a diffusion model's U-Net
dinov3      features of DINOv3
"""
