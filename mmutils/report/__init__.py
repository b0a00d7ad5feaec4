"""The report: records become tables, figures, one page and one PDF. Nothing here imports torch.

Read in this order:

- `rendering`: from the records to report.md, report.html and report.pdf;
- `results`: the runs of one study, with intervals and paired comparisons, cached;
- `sections`: the blocks that a chapter is made of, and how numbers are written;
- `crisis`: the first chapter: two languages, text, picture and both;
- `memes`: the second chapter: few labels, with and without pretraining;
- `pretraining`: the part of it on what pretraining learned and whether it collapsed;
- `transfer`: the third chapter: from English to Hindi;
- `diagnostics` and `extras`: parts that several chapters share;
- `plots`, `markdown`, `figures`, `explorer`, `html`, `pdf`: how it is drawn and set.
"""
