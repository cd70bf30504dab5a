"""The method ``attn``: settings, evidence, refinement, answers.  Import the modules you need."""
