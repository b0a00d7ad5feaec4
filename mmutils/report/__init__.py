"""The report: records become tables, figures, one page and one PDF. Nothing here imports torch. Read in this order:

- `rendering`: from the records to report.md, report.html and report.pdf; the list of a chapter's blocks;
- `results`: the runs of one study; `page`: where blocks write to; `systems`: what is compared with what;
- `questions`, `tables`, `diagnostics`: the blocks of a chapter, `notes.md` their words;
- `plots`, `curves`, `answers`, `markdown`, `html`, `explorer`, `pdf`: how it is drawn and set.
"""
