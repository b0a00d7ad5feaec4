"""The report: records become tables, figures, one page and one PDF. Nothing here imports torch. Read in this order:

- `rendering`: from the records to report.md, report.html and report.pdf; `results`, `extras`: the runs of one study;
- `sections`, `diagnostics`: what chapters are made of; `crisis`, `memes`, `finetuned`, `pretraining`, `transfer`: them;
- `plots`, `answers`: figures; `markdown`, `figures`, `html`, `explorer`, `pdf`: from text to page and print.
"""
