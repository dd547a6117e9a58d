"""The referee: sealed run-time sets and true labels, the scores, and what they allow to say."""
