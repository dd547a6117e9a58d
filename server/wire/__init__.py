"""The server's end of the wire: questions, answers, admission."""
