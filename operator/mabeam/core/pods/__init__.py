"""Pods as facts and as objects to create: lifecycle, spec, hash, resources."""
