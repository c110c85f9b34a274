"""The student: a small DistilBERT classifier, from its body to the exported folder that classifies texts.

Nothing is imported here, so that ``s3local.student.inference`` runs where torch is not installed.
"""
