"""The fault campaign: one workload, one oracle, and every fault that can be put between them (docs/reliability.md)."""
