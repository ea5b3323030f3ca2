"""Evaluation: from the predictions on a labelled set to evidence that a person can weigh.

    predictions.py   predictions.csv: one row an image, the raw material of everything else here
    scores.py        predictions -> every figure, for any weighting of groups; areas under curves in ranking.py
    metrics.py       scores -> Metrics: the figures with names and types, confusion matrix
    intervals.py     scores -> an interval for each figure, by the resamples of bootstrap.py
    operating.py     what is found at a fixed specificity; decision.py: whether acting on it is worth it
    calibrate.py     a model folder gets its temperature, thresholds, prediction sets and limit, by the fit_*.py
    certainty.py     what was promised against the truth: calibration before and after, coverage, rejection
    selective.py     what abstaining buys; shares.py: any share of images with its interval, for these and operating.py
    evaluate.py      a model on a folder -> Evaluation: all of these; drop.py: against the model's own test part
    write.py         Evaluation -> the folder of files that shows it
    compare.py       two models on the same images -> Comparison
    tables.py        Evaluation, Comparison -> tables in a terminal
    figures.py       Metrics, history, ... -> PNG figures, in the colours of colours.py     (extra `report`)
    report.py        all of these -> one HTML file, with flow.py and mistakes.py          (extra `report`)
    readme.py        a card -> README.md and checklist.md of a model folder

Nothing here imports torch or scikit-learn: a server that never trains can evaluate.
"""
