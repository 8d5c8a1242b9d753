"""Evaluation of user functions in CEL and plug-ins, in worker processes with limits."""
