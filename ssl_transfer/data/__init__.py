"""Sources, decoding, the decoded store, splits, the DataModule, views and corruptions."""

from __future__ import annotations
