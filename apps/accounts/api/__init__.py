"""Tokens for programs: how they are given, renewed, checked and ended."""
