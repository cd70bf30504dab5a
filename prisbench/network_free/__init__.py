"""Predictors that read photos and texts without a network: baselines, and the audit's.  Import the modules you need."""
