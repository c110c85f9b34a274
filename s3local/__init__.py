"""s3local: Synthesis Step by Step (S3), fully local and offline."""

from __future__ import annotations

__version__ = "0.1.0"
