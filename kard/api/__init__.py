"""What people who write Python call."""
