//! What people see: colours only on a terminal, columns of a fixed width, errors on stderr.

use std::fmt::Display;
use std::io::{IsTerminal, stderr, stdout};

/// Width of a column of `archipelago`, as scripts have come to know it.
const COLUMN: usize = 23;

/// The colours there are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Colour {
    Red = 31,
    Green = 32,
    Yellow = 33,
}

fn wanted(terminal: bool) -> bool {
    terminal && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty())
}

fn painted(text: &str, colour: Colour, wanted: bool) -> String {
    match wanted {
        true => format!("\x1b[{}m{text}\x1b[0m", colour as u8),
        false => text.to_owned(),
    }
}

/// `text` padded to a column.
pub(crate) fn column(text: impl Display) -> String {
    // As text first: not every Display pads.
    format!("{:<COLUMN$}", text.to_string())
}

/// `text` padded to a column, in a colour if standard output is a terminal.
pub(crate) fn paint(text: &str, colour: Colour) -> String {
    painted(&column(text), colour, wanted(stdout().is_terminal()))
}

/// Says on standard error what went wrong.
pub(crate) fn complain(text: impl Display) {
    let text = text.to_string();
    eprintln!(
        "{}",
        painted(&text, Colour::Red, wanted(stderr().is_terminal()))
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_surround_the_padded_text() {
        assert_eq!(painted(&column("OK"), Colour::Green, true).len(), 23 + 9);
        assert_eq!(painted("x", Colour::Red, true), "\x1b[31mx\x1b[0m");
        assert_eq!(painted("x", Colour::Red, false), "x");
    }
}
