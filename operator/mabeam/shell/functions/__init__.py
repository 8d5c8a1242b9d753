"""Calls of user functions: scheduling, limits, webhooks."""
