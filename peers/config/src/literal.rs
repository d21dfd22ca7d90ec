//! Numbers and booleans as Python 2 reads them from a configuration file.
//!
//! `getint` is decimal; the umask keys go through `int(text, 0)`, where a prefix or a leading
//! zero chooses the base (`0o007` and `007` are octal, `0x7`, `0b111`, `18` is decimal).

/// A decimal integer, with an optional sign.
pub(crate) fn decimal(text: &str) -> Option<i64> {
    text.parse().ok()
}

/// A non-negative integer whose base its prefix tells.
pub(crate) fn base_zero(text: &str) -> Option<u32> {
    let digits = text.strip_prefix('+').unwrap_or(text);
    let lower = digits.to_ascii_lowercase();
    let (digits, radix) = match lower.as_bytes() {
        [b'0', b'x', ..] => (&lower[2..], 16),
        [b'0', b'o', ..] => (&lower[2..], 8),
        [b'0', b'b', ..] => (&lower[2..], 2),
        [b'0', _, ..] => (&lower[1..], 8),
        _ => (&lower[..], 10),
    };
    let plain = digits.bytes().all(|b| b.is_ascii_alphanumeric());
    plain.then(|| u32::from_str_radix(digits, radix).ok())?
}

/// `1`, `yes`, `true`, `on`, `0`, `no`, `false`, `off`, in any case.
pub(crate) fn boolean(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "1" | "yes" | "true" | "on" => Some(true),
        "0" | "no" | "false" | "off" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_prefix_tells_the_base() {
        let table = [
            ("0o007", Some(7)),
            ("007", Some(7)),
            ("0027", Some(0o27)),
            ("18", Some(18)),
            ("0x1F", Some(31)),
            ("0b101", Some(5)),
            ("0", Some(0)),
            ("+7", Some(7)),
            ("", None),
            ("++7", None),
            ("-7", None),
            ("008", None),
            ("0x", None),
            ("0o-7", None),
            ("sedici", None),
            ("99999999999", None),
        ];
        for (text, value) in table {
            assert_eq!(base_zero(text), value, "{text:?}");
        }
    }

    #[test]
    fn booleans_are_pythons() {
        for text in ["1", "yes", "True", "ON"] {
            assert_eq!(boolean(text), Some(true), "{text}");
        }
        for text in ["0", "No", "FALSE", "off"] {
            assert_eq!(boolean(text), Some(false), "{text}");
        }
        for text in ["", "2", "y", "t", "enabled"] {
            assert_eq!(boolean(text), None, "{text}");
        }
    }

    #[test]
    fn plain_integers_are_decimal() {
        assert_eq!(decimal("010"), Some(10));
        assert_eq!(decimal("-1"), Some(-1));
        assert_eq!(decimal("0x10"), None);
    }
}
