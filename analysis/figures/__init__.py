"""Figures for a paper of two columns: each function takes frames or results and returns a
matplotlib `Figure`.
"""
