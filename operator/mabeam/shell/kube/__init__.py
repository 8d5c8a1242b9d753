"""The Kubernetes API: the client, watches, lists, leader election, Events, RBAC rules."""
