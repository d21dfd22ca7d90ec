"""The segment of an Archipelago node, as C code sees it.

``xseg.xseg_api`` has the functions of ``libxseg.so.0``, ``xseg.xprotocol`` the structures and
numbers that travel in requests. For programs there is ``archipelago``.
"""
