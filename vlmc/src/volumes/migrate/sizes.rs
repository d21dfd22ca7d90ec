//! The sizes of maps of version 0, which only Pithos knows: a map's name and its size in bytes on
//! each line, with blanks, `|`, `,` or `;` between them, as `psql` and `mysql` print them.

use crate::failure::Failure;
use std::collections::HashMap;
use std::path::Path;

/// Bytes by the name of the map.
pub(super) type Sizes = HashMap<String, u64>;

pub(super) fn read(file: &Path) -> Result<Sizes, Failure> {
    let failed = |why: String| Failure::new(format!("{}: {why}", file.display()));
    let text = std::fs::read_to_string(file).map_err(|why| failed(why.to_string()))?;
    parse(&text).map_err(failed)
}

fn parse(text: &str) -> Result<Sizes, String> {
    let mut sizes = Sizes::new();
    for (line, at) in text.lines().zip(1..) {
        let mut words = line
            .split(|c: char| c.is_whitespace() || "|,;".contains(c))
            .filter(|word| !word.is_empty());
        let Some(name) = words.next() else { continue };
        let size = words.next().and_then(|word| word.parse().ok());
        let (true, Some(size), None) = (is_hash(name), size, words.next()) else {
            return Err(format!(
                "line {at} is not the name of a map of version 0 and its size in bytes"
            ));
        };
        if sizes
            .insert(name.to_owned(), size)
            .is_some_and(|other| other != size)
        {
            return Err(format!("line {at} says another size of {name}"));
        }
    }
    Ok(sizes)
}

fn is_hash(name: &str) -> bool {
    mapfile::name::is_hash_name(name.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_sizes() {
        let (one, other) = ("a".repeat(64), "0".repeat(64));
        let text = format!(" {one} | 4194305\n\n{other}\t7\n{one},4194305\n");
        let sizes = parse(&text).unwrap();
        assert_eq!((sizes[&one], sizes[&other], sizes.len()), (4_194_305, 7, 2));
        for (bad, why) in [
            (format!("{one} 7\n{one} 8"), "line 2 says another size"),
            (one.to_string(), "line 1 is not"),
            (format!("{one} 7 8"), "line 1 is not"),
            ("mapfile size".into(), "line 1 is not"),
            (format!("{one} -7"), "line 1 is not"),
        ] {
            let said = parse(&bad).unwrap_err();
            assert!(said.starts_with(why), "{bad}: {said}");
        }
    }
}
