"""The student: an encoder that is trained to classify texts or to answer questions, and exported to ONNX.

    encoding.py  windows.py              texts and contexts to token ids
    body.py  pooling.py                  encoders from local folders, sentence embeddings
    optimisation.py  contrastive.py      training loops, supervised contrastive fine-tuning
    training.py  reader_training.py      training of classifiers and readers
    export.py  reader_export.py          export to ONNX in 32 and 8 bits, with checks
    agreement.py                         how two forms of a student agree
    inference.py  reader.py              exported classifiers and readers, on onnxruntime

Nothing is imported here, so that ``s3local.student.inference`` runs where torch is not installed.
"""
