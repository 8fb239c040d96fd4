"""The verdict on the FisherMask paper (arXiv 2411.05752): a page from the records of its runs.

`fm-al-verdict FOLDER` writes the page and its long tables. Every figure in them follows from the
records.
"""
