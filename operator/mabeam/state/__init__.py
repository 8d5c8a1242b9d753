"""What is known of the cluster: parsing, cache, wake-ups, and the snapshot of one key. No cluster client."""
