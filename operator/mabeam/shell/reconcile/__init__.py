"""The loop: route, queue, observe, decide, apply."""
