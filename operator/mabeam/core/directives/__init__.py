"""What variables make one agent do: effective values, conflicts, delivery and acknowledgement."""
