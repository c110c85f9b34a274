"""Figures as text: of ``check``, of a run, of a comparison. Reads what others computed; decides nothing."""
