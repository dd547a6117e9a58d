"""The agents: their app, private data, behaviours."""
