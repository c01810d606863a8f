"""How good generated clips are, beside floors made from real footage."""
