"""Results in the forms of other programs: the Hub's, Every Eval Ever's, COCO's, FiftyOne's, LaTeX."""
