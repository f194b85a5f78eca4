"""DDR: a domain module adapted without labels, a relevance module trained once (Zhan et al.)."""
