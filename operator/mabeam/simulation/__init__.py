"""The rehearsal: the operator's own decisions over a cluster in memory, in virtual time, with faults by script or by chance."""
