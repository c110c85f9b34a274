"""What a finished run is taken away as.

dataset.py    its synthetic rows with their provenance: JSON Lines, CSV, Parquet, Hugging Face, Argilla, Label Studio
model.py      its selected classifier: a folder for bare onnxruntime
cards.py      dataset card and model card, in the format of the hub
"""
