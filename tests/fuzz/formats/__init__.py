"""Formats as parts that can be spoilt one by one."""
