"""What every case of the benchmark stands on: the cluster, the load, the watch, the audit log, the operator's process."""
