"""Data that ships with labloop; see README.md beside this file."""
