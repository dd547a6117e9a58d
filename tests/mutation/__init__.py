"""Mutation testing: small faults are put into the code, and the tests must notice.

``python tests/mutation`` is a command, not a part of the gate. It needs the extra `mutation`.
"""
