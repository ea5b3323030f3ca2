"""From records and a recipe to a run: the only room that imports torch (and only when it trains)."""
