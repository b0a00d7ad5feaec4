"""The report: records become tables, figures, one page and one PDF. Nothing here imports torch. Read in this order:

- `rendering`: from the records to report.md, report.html and report.pdf; `results`: the runs of one study;
- `crisis`, `memes`, `transfer`: chapters; `own`, `gaps`: those of other data; `sections`, `cells`, `diagnostics`,
  `pretraining`: their parts;
- `plots`, `curves`, `answers`, `markdown`, `figures`, `html`, `explorer`, `pdf`: how it is drawn and set.
"""
