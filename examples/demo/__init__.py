"""The demo: a team of agents on a real Kubernetes, step by step, each promise checked as it is shown."""
