"""The first bytes by which kinds of files are recognised. Reads no file."""

GZIP, BZIP2, XZ = b"\x1f\x8b", b"BZh", b"\xfd7zXZ"
ZIP = b"PK\x03\x04"
# The mark of a tar archive, and its position.
TAR, TAR_PLACE = b"ustar", 257
# Excel's older kind of file. The newer one is a zip archive.
OLD_EXCEL = b"\xd0\xcf\x11\xe0"
