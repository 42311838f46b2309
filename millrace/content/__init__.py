"""What uploaded bytes really are: found by decoding, cleaned, measured.

A picture keeps its pixels and a film its frames; what they say about their maker (EXIF, GPS,
XMP, tags, thumbnails) goes. `cleaner` is the way in; decoders run in its worker processes
(docs/adr says why), and `spool` holds what a client sends until then.

Not: where bytes are kept (`millrace/stores/objects.py`), who may see them (the policy).
"""
