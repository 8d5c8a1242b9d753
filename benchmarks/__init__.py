"""Figures: what the operator costs and how quick it is, measured on the tests' cluster."""
