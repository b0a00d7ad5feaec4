"""mmutils: classify posts that have a picture and a text, in two languages, with few labels.

The notebooks are thin; what they do is here. The way of the data, in reading order:

    data        files on disk -> tables of examples; a data set is one file, found by its name
    batches     tables -> batches: pictures decoded once, tokens, augmented views
    models      batches -> features -> logits: encoders of pictures, texts and both, fusions, where weights come from
    methods     what is minimised: supervised, CLIP, DINO, CASS, CASS-MM; a method is one file
    training    method + batches -> weights: the loop, checkpoints, several processes; whole studies over seeds
    evaluation  weights -> predictions, probes, retrieval, use of both modalities, collapse; export
    statistics  predictions -> scores, intervals, tests, calibration; numpy and scipy only
    runs        records and predictions on disk; what a result depends on; whole writes and caches
    report      records -> tables, figures, page, PDF; a chapter is one file
    reproduce   which notebook has to run again, and running it

Free to change: a data set, a method, an encoder, a chapter; their tests say what must hold. Change with care: the loop,
checkpoints, fingerprints and the bootstrap, on which every number depends. `predict` and `translate` are commands.
"""

__version__ = "0.1.0"

from mmutils.runs import fingerprints  # reads the package's source before any other module is loaded
