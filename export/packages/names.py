"""Names and labels in generated files: whatever a file is called, the sources compile.

`packages.of_file` passes the names of all networks through `plain`, once for all targets. What is
written between quotation marks goes through `c_string`.
"""

from __future__ import annotations

import re
import zlib

_LONGEST = 80  # letters of a name; file systems end at 255 bytes, with what is put around it


def plain(name: str) -> str:
    """A name of letters, digits and ``._@+-`` of ASCII, which files, comments and strings may hold.

    Other characters become underscores. Where little of a name would be left, or it is cut, a
    checksum of the whole keeps it apart from others.
    """
    reduced = re.sub(r"[^A-Za-z0-9._@+-]+", "_", name).lstrip(".-")
    if len(reduced) <= _LONGEST and re.search("[A-Za-z0-9]", reduced):
        return reduced
    checksum = zlib.crc32(name.encode("utf-8", "surrogatepass"))
    return f"{reduced[:_LONGEST].strip('._-') or 'network'}_{checksum:08x}"


def identifier(name: str) -> str:
    """An identifier of C, C++ and Kotlin: ``net_``, then the small letters and digits of a name.

    Other characters become underscores, such as in ``net_elite9_relu6``. Packages name files,
    functions, macros and namespaces by it.
    """
    return "net_" + re.sub(r"[^a-z0-9]+", "_", plain(name).lower()).strip("_")


def c_string(text: str) -> str:
    """A string literal of C and C++, in ASCII, for the UTF-8 encoding of a text."""
    # The escapes are octal because these end after three digits, which hexadecimal ones do not.
    # A question mark is escaped because two of them could begin a trigraph.
    escaped = (
        chr(byte) if 32 <= byte < 127 and byte not in b'"\\?' else f"\\{byte:03o}"
        for byte in text.encode("utf-8", "replace")
    )
    return '"' + "".join(escaped) + '"'
