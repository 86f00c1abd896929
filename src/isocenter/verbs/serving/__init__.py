"""What `isocenter serve` hands to the viewer: the ports of `viewer.ports`, each over the rooms that do the work."""
