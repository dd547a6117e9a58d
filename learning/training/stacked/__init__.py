"""K models of one architecture, as one."""
