"""The store in a browser: datasette with what kard knows of its tables, the report, and a page for each question.

In reading order:

- `server`    serves one store on loopback
- `plugin`    kard as a plugin of datasette: routes, canned queries, links, error pages
- `pages`     the first page, on the report; the page that finds a question; the page that shows its trace
- `database`  the store as datasette's database: read-only, with meanings, units, facets and canned queries
- `guard`     checks before every page: only loopback is answered, and no text on a page can act
- `templates/`, `static/`  the pages' HTML and style sheet

How a request travels: `guard` refuses a Host that is not loopback. `plugin` redirects a canned query that was
opened without values to one with examples. A question's page reads `kard.evaluation.trace` and renders its
template. `guard` adds the policy that forbids scripts, and replaces control characters in the text that leaves.
"""
