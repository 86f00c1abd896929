"""The node's watch over its own answers: observations, drift, alarms, shadow comparison, canary and rollback."""
