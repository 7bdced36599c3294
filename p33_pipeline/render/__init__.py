"""What the report and the review look like: one frame, one style, pictures drawn as SVG. No data is read here."""
