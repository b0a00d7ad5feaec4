"""mmutils: classify posts that have a picture and a text, in two languages, with few labels.

The notebooks are thin; what they do is here. One module for each idea, and modules are found by their names:
`mmutils.data.load("emoji_topics")`, `mmutils.methods.load("dino")`. Importing the package reads its source, by which
records name the code that ran.
"""

__version__ = "0.1.0"

from mmutils.runs import fingerprints  # noqa: F401, reads the package's source before any other module is loaded
