"""Score a candidate on search text: KL and negative log-likelihood."""
