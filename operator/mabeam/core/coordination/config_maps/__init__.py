"""The ConfigMaps that a variable owns: its decision, its history, and the directives of its agents."""
