"""The report: records become tables, figures, one page and one PDF."""
