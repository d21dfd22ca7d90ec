//! The original's INI dialect: Python's ConfigParser.
//!
//! Keys are compared without case, sections with it; `key = value` and `key: value`; lines that
//! begin with `#` or `;` are comments, and ` ;` ends a value; an indented line goes on with the
//! value above it; a key given twice has its last value; `[DEFAULT]` lends its keys to every
//! section. `%` stands for itself. Unlike there, a line that begins with `[` opens a section even
//! when it is indented.
//!
//! The `configparser` crate does the reading but keeps no line numbers. So every line carries
//! its own number through it, behind a character that no configuration holds, and the number
//! comes off again when the values are taken out.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use configparser::ini::Ini as Parser;

use crate::error::{ConfigError, ErrorKind, Place};

/// Stands between a line's text and its number (ASCII "unit separator").
const TAG: char = '\u{1f}';
/// The section that the parser puts keys into which stand before any section.
const NO_SECTION: &str = "";
/// The section whose keys every other section inherits.
const DEFAULT: &str = "DEFAULT";

/// One value and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// The text, trimmed; continuation lines are joined by line feeds.
    pub(crate) text: String,
    /// The line, counted from 1.
    pub(crate) line: u32,
}

type Keys = BTreeMap<String, Entry>;

/// A configuration file, read but not understood.
#[derive(Clone, Debug)]
pub(crate) struct Ini {
    /// The file, absolute, for messages and relative paths.
    pub(crate) file: PathBuf,
    sections: BTreeMap<String, Keys>,
}

impl Ini {
    /// Reads the text of `file`.
    pub(crate) fn parse(file: &Path, text: &str) -> Result<Ini, ConfigError> {
        let mut parser = Parser::new_cs();
        parser.set_default_section(NO_SECTION);
        parser.set_comment_symbols(&['#', ';']);
        parser.set_inline_comment_symbols(Some(&[]));
        parser.set_multiline(true);
        let read = parser.read(with_line_numbers(text));
        let read = read.map_err(|message| syntax_error(file, message))?;
        let mut sections = BTreeMap::new();
        for (name, values) in read {
            sections.insert(name.clone(), take_keys(file, &name, values)?);
        }
        match sections
            .remove(NO_SECTION)
            .and_then(|keys| keys.into_iter().next())
        {
            Some((key, entry)) => Err(outside(file, &key, entry.line)),
            None => Ok(Ini {
                file: file.into(),
                sections,
            }),
        }
    }

    /// The directory that relative paths start from.
    pub(crate) fn base(&self) -> &Path {
        self.file.parent().unwrap_or(Path::new("/"))
    }

    /// Whether the file has such a section.
    pub(crate) fn has_section(&self, section: &str) -> bool {
        self.sections.contains_key(section)
    }

    /// The keys that the section itself holds.
    pub(crate) fn keys(&self, section: &str) -> impl Iterator<Item = (&str, &Entry)> {
        let keys = self.sections.get(section).into_iter().flatten();
        keys.map(|(key, entry)| (key.as_str(), entry))
    }

    /// The value of `key` (lower case) in the section, or in `[DEFAULT]`.
    pub(crate) fn get(&self, section: &str, key: &str) -> Option<&Entry> {
        let own = self.sections.get(section)?.get(key);
        own.or_else(|| self.sections.get(DEFAULT)?.get(key))
    }

    /// Where the key stands, or would stand.
    pub(crate) fn place(&self, section: &str, key: &str) -> Place {
        Place {
            file: self.file.clone(),
            section: Some(section.into()),
            key: Some(key.into()),
            line: self.get(section, key).map(|entry| entry.line),
        }
    }

    /// Where the section stands, or would stand.
    pub(crate) fn section_place(&self, section: &str) -> Place {
        Place {
            file: self.file.clone(),
            section: Some(section.into()),
            ..Place::default()
        }
    }
}

fn with_line_numbers(text: &str) -> String {
    let tagged = text
        .lines()
        .zip(1u32..)
        .map(|(line, number)| match line.trim() {
            "" => "\n".into(),
            _ => format!("{}{TAG}{number}\n", header_alone(line).replace(TAG, " ")),
        });
    tagged.collect()
}

/// `[NAME]` without what follows it: the parser would look for the last bracket of the line.
fn header_alone(line: &str) -> &str {
    match line.find(']') {
        Some(end) if line.starts_with('[') => &line[..=end],
        _ => line,
    }
}

/// Takes one line's text and number apart; drops a ` ;` comment.
fn untag(line: &str) -> Option<(&str, u32)> {
    let (text, number) = line.rsplit_once(TAG)?;
    let comment = text.char_indices().zip(text.chars().skip(1));
    let end = comment
        .into_iter()
        .find(|((_, a), b)| a.is_whitespace() && *b == ';');
    let text = end.map_or(text, |((at, _), _)| &text[..at]);
    Some((text.trim(), number.parse().ok()?))
}

/// The keys of one section in lower case; of a key spelled in two ways the later counts.
fn take_keys(
    file: &Path,
    section: &str,
    values: impl IntoIterator<Item = (String, Option<String>)>,
) -> Result<Keys, ConfigError> {
    let mut keys = Keys::new();
    for (key, value) in values {
        let Some(value) = value else {
            let (key, line) = untag(&key).unwrap_or((&key, 0));
            return Err(no_delimiter(file, section, key, line));
        };
        let mut lines = value.lines().filter_map(untag).peekable();
        let line = lines.peek().map_or(0, |(_, line)| *line);
        let text: Vec<&str> = lines
            .map(|(text, _)| text)
            .filter(|text| !text.is_empty())
            .collect();
        let entry = Entry {
            text: text.join("\n"),
            line,
        };
        let key = key.to_lowercase();
        if keys.get(&key).is_none_or(|earlier| earlier.line < line) {
            keys.insert(key, entry);
        }
    }
    Ok(keys)
}

/// The parser's own message, `line 3: ...` or `line 3:0: ...`, as one of ours.
fn syntax_error(file: &Path, message: String) -> ConfigError {
    let told = message
        .strip_prefix("line ")
        .and_then(|rest| rest.split_once(": "));
    let (line, sentence) = match told {
        Some((at, sentence)) => (at.split(':').next().and_then(|n| n.parse().ok()), sentence),
        None => (None, message.as_str()),
    };
    let place = Place {
        file: file.into(),
        line,
        ..Place::default()
    };
    ConfigError::new(ErrorKind::Syntax, place, sentence)
}

fn no_delimiter(file: &Path, section: &str, key: &str, line: u32) -> ConfigError {
    if section == NO_SECTION {
        return outside(file, key, line);
    }
    let place = Place {
        file: file.into(),
        section: Some(section.into()),
        key: None,
        line: Some(line),
    };
    let message = format!(
        "`{}` is neither `key = value` nor a comment",
        key.escape_debug()
    );
    ConfigError::new(ErrorKind::Syntax, place, message)
}

fn outside(file: &Path, key: &str, line: u32) -> ConfigError {
    let place = Place {
        file: file.into(),
        line: Some(line),
        ..Place::default()
    };
    let message = format!("`{}` stands before the first section", key.escape_debug());
    ConfigError::new(ErrorKind::Syntax, place, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(text: &str) -> Result<Ini, ConfigError> {
        Ini::parse(Path::new("/etc/a.conf"), text)
    }

    #[test]
    fn the_dialect_is_pythons() {
        let text = "# comment\n; another\n[DEFAULT]\nlent = 5\n\n[ARCHIPELAGO]\nUser = root\n\
                    group: root ; who\npath = /a;b#c\nempty =\nROLES = one two\n   three\n\
                    \n\t# inside\n  four\nlast = 1\nLAST = 2\nlast_url = a:b=c\n\
                    [archipelago] ; not [B]\n  x=%(y)s\n  z : [1]\n";
        let ini = parse(text).unwrap();
        let table = [
            ("user", "root", 7),
            ("group", "root", 8),
            ("path", "/a;b#c", 9),
            ("empty", "", 10),
            ("roles", "one two\nthree\nfour", 11),
            ("last", "2", 17),
            ("last_url", "a:b=c", 18),
            ("lent", "5", 4),
        ];
        for (key, text, line) in table {
            let entry = Entry {
                text: text.into(),
                line,
            };
            assert_eq!(ini.get("ARCHIPELAGO", key), Some(&entry), "{key}");
        }
        assert_eq!(ini.get("archipelago", "x").unwrap().text, "%(y)s");
        assert_eq!(ini.get("archipelago", "z").unwrap().text, "[1]");
        assert_eq!(ini.get("archipelago", "user"), None);
    }

    #[test]
    fn what_is_no_ini_is_refused_with_its_line() {
        let table = [
            (
                "user = root\n",
                "/etc/a.conf:1: `user` stands before the first section",
            ),
            (
                "\nnonsense\n",
                "/etc/a.conf:2: `nonsense` stands before the first section",
            ),
            (
                "[A]\nb = 1\nnonsense\n",
                "/etc/a.conf:3: [A]: `nonsense` is neither",
            ),
            ("[A]\n\n[B\n", "/etc/a.conf:3: "),
            ("[A]\n= 5\n", "/etc/a.conf:2: "),
        ];
        for (text, start) in table {
            let error = parse(text).unwrap_err();
            assert!(error.to_string().starts_with(start), "{text:?}: {error}");
            assert_eq!(error.kind(), ErrorKind::Syntax);
        }
    }

    #[test]
    fn dos_line_ends_and_a_stray_tag_do_no_harm() {
        let ini = parse("[A]\r\nb = 1\r\nc = x\u{1f}9\r\n").unwrap();
        assert_eq!(ini.get("A", "b").unwrap().text, "1");
        assert_eq!(
            ini.get("A", "c"),
            Some(&Entry {
                text: "x 9".into(),
                line: 3
            })
        );
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "([\\[\\]a-cA-C=:;# \t\r\u{1f}é\n]|DEFAULT){0,60}") {
            let _ = parse(&text);
        }
    }
}
