"""The template of the page: HTML, CSS and JavaScript."""
