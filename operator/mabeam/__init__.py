"""MABEAM on Kubernetes: OTP supervision and multi-agent coordination for pods."""

__version__ = "0.1.0"
