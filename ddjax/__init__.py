"""ddjax."""
