"""Everything that people look at, as pure functions of results: tables, figures, the page."""
