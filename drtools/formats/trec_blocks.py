"""Blocks of a run with six columns, split by whole arrays of bytes."""

from codecs import BOM_UTF8

LONGEST_HEAD = 1000  # a query id of a megabyte would make a table of a megabyte for each line


def split_block(block: bytes, wanted: list[int]) -> tuple[list[tuple[str, int, int]], list[list[str]]] | None:
    """Split whole lines of six columns with one space or tab between them; return None if a line is anything else.

    Returns the lines of each query as (query id, first line, line after the last), where the lines of a query may come
    in several parts, and the wanted columns (numbers from 0, ascending), a list each.
    """
    import numpy as np

    if not block.endswith(b"\n"):
        block += b"\n"
    codes = np.frombuffer(block, dtype=np.uint8)
    ends = np.flatnonzero(codes <= ord(" "))  # of columns
    widths = np.diff(ends, prepend=-1)  # each with its separator
    separators = codes[ends]
    if len(ends) != 6 * block.count(b"\n") or not (separators[5::6] == ord("\n")).all() or not (widths > 1).all():
        return None
    plain = (
        (separators == ord(" ")) | (separators == ord("\t")) | (separators == ord("\n"))
    )  # and no other control character
    if not plain.all() or block.startswith(BOM_UTF8):
        return None
    if not block.isascii():
        block.decode()  # raises where a column that is not wanted is not UTF-8

    lines = np.append(0, ends[5:-1:6] + 1)  # where each begins
    width = int(widths[::6].max())
    if width > LONGEST_HEAD:
        return None
    heads = np.lib.stride_tricks.sliding_window_view(np.append(codes, np.zeros(width, np.uint8)), width)[lines]
    # equal heads, each with the separator after its query id, mean equal ids
    starts = np.append(0, np.flatnonzero((heads[1:] != heads[:-1]).any(axis=1)) + 1).tolist()
    queries = [block[lines[i] : ends[6 * i]].decode() for i in starts]
    is_wanted = np.tile([column in wanted for column in range(6)], len(lines))
    columns = codes[np.repeat(is_wanted, widths)].tobytes().replace(b"\t", b" ").decode().split(" ")
    return list(zip(queries, starts, [*starts[1:], len(lines)], strict=True)), [
        columns[i : -1 : len(wanted)] for i in range(len(wanted))
    ]
