"""The records: tables, their schema, and how they are collected."""
