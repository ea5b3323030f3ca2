"""From a folder to records: what is there (`catalogue`), who it belongs to (`groups`), which part it is in (`split`).

No torch.
"""
