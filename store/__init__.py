"""What is kept: migrations, views and named queries."""
