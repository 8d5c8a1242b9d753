"""How a value comes about: one module for each way, chosen by `table.STRATEGIES`."""
