"""Algorithms without snapshots and statuses: consensus, fair division, OTP tables, peer graphs."""
