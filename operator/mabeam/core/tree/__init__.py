"""The children of one Supervisor: order, restarts, escalation, status."""
