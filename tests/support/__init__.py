"""What the tests share: builders that read as English, a small world, and the way to the tests' cluster."""
