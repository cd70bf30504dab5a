"""Latent diffusion models: loading them, composing prompts, reading their attention.  Import the modules you need."""
