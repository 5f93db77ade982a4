"""The store in a browser: datasette with what kard knows of its own tables, and a page for a question's trace."""
