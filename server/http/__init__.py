"""HTTP: routes, what guards them, and what errors look like."""
