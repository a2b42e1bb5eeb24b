"""How many clicks the weights need: protocol, metrics, report."""
