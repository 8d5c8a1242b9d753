"""One file per custom resource: the pass that turns its snapshot into a Decision."""
