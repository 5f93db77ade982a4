"""One self-contained page of a split: tables, figures, and questions with all that stands behind their answers."""
