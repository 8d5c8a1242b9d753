"""The fault campaign: reference workloads, what must hold of them, and every fault put between (docs/reliability.md)."""
