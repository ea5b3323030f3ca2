"""From a model folder to predictions: the card (`card`), the graph (`engine`), the files (`predictor`). No torch."""
