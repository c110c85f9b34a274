"""Carrying an installation into an air-gapped network: one folder or ZIP archive with everything.

carried.py    verify and install a bundle; needs the standard library alone, because a bundle carries it as its program
sbom.py       what is inside, as a CycloneDX bill of materials
create.py     make a bundle on a connected machine
"""
