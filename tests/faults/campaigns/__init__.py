"""One module for each kind of fault; its ID is the one of docs/reliability.md and of the recorded results."""
