"""Pure decisions: from a snapshot and a time to a Decision. No cluster, clock, randomness or environment."""
