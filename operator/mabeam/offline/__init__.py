"""Commands that need no cluster: plan, lint, explain, and the worlds that they read."""
