"""The replicas of one Agent: exits, restarts, the failure budget, rollout, status."""
