"""One file per question; each runs ours and a named peer in turn on the same input in one run. Never timed tests."""
