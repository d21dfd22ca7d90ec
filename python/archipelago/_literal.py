"""Numbers of the configuration file."""


def literal(text: str) -> int:
    """0o007 and 007 are octal, 18 is decimal, 0x12 hexadecimal."""
    text = text.strip()
    octal = len(text) > 1 and text[0] == "0" and text[1:].isdigit()
    return int(text, 8 if octal else 0)
