"""The student: a small DistilBERT, from its body to the exported folder that classifies texts or answers questions.

Nothing is imported here, so that ``s3local.student.inference`` runs where torch is not installed.
"""
