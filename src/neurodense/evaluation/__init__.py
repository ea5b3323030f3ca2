"""Evaluation: from the predictions on a labelled set to evidence that a person can weigh.

    predictions.py   predictions.csv: one row an image, the raw material of everything else here
    metrics.py       predictions -> Metrics: loss, accuracy, per-class scores, confusion matrix
    calibrate.py     a model folder gets its temperature, prediction sets and limit, by the three fit_*.py
    certainty.py     what was promised against the truth: coverage, and reliability.py before and after calibration
    tables.py        Metrics -> tables in a terminal
    figures.py       Metrics, history -> PNG figures, in the colours of colours.py     (extra `report`)
    report.py        all of these -> one HTML file                                     (extra `report`)

Nothing here imports torch or scikit-learn: a server that never trains can evaluate.
"""
