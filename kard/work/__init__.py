"""Work that is shared: claims of processes on one store, and workers beside each other."""
