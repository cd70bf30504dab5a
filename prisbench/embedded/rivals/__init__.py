"""Small models of the classes that outside methods stand on, trained on Tabletop: SAM and CLIPSeg."""
