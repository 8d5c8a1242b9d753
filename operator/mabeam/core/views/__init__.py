"""What others see of objects: the records of `/v1`, and the metrics of a pass."""
