"""A whole Kubernetes on one Linux machine, without a container engine and without an image registry."""
