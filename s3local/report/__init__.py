"""Figures as text: of ``check``, of a run, of a comparison. Everything shown is computed elsewhere."""
