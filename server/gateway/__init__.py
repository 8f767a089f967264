"""A gateway and an orchestrator in one process: the network on one machine, without a chain."""
