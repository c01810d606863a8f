"""Footage: videos to shards to clips; captions and word vectors."""
