"""From the network's logits to masks that honour every click, one file a step."""
