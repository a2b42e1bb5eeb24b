"""Photos with labels: where they are and how training varies them."""
