//! The original's single-dash long options, such as `-sp` and `-v0`, as double-dash ones.
//!
//! To clap `-sp` is `-s` and `-p`. So a word that is exactly an entry of the table, alone or
//! before `=`, is replaced before clap sees it; nothing after `--` is touched. A value that
//! looks like an entry would be replaced too: values that begin with a dash need
//! `--option=-value`, as everywhere in clap.

use std::ffi::{OsStr, OsString};

/// Replaces in `args` each word that `table` has, `("-sp", "--start-port")`, by its long form.
/// The first word is the program's name and stays.
pub fn rewrite_single_dash(
    args: impl IntoIterator<Item = OsString>,
    table: &[(&str, &str)],
) -> Vec<OsString> {
    let mut args = args.into_iter();
    let mut rewritten: Vec<OsString> = args.by_ref().take(1).collect();
    for arg in args.by_ref() {
        let end = arg == "--";
        rewritten.push(replace(&arg, table).unwrap_or(arg));
        if end {
            break;
        }
    }
    rewritten.extend(args);
    rewritten
}

fn replace(arg: &OsStr, table: &[(&str, &str)]) -> Option<OsString> {
    let arg = arg.to_str()?;
    let (option, value) = match arg.split_once('=') {
        Some((option, value)) => (option, Some(value)),
        None => (arg, None),
    };
    let (_, long) = table.iter().find(|(short, _)| *short == option)?;
    Some(match value {
        Some(value) => format!("{long}={value}").into(),
        None => long.into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &[(&str, &str)] = &[("-sp", "--start-port"), ("-v0", "--assume_v0")];

    fn rewrite(words: &str) -> String {
        let args = words.split(' ').map(OsString::from);
        let rewritten = rewrite_single_dash(args, TABLE);
        rewritten
            .iter()
            .map(|word| word.to_str().unwrap())
            .collect::<Vec<_>>()
            .join(" ")
    }

    #[test]
    fn only_whole_words_of_the_table_change() {
        let table = [
            ("x -sp 5 -v0", "x --start-port 5 --assume_v0"),
            ("x -sp=5", "x --start-port=5"),
            ("x -s -p -spx --sp -v", "x -s -p -spx --sp -v"),
            ("-sp -sp", "-sp --start-port"),
            ("x -v0 -- -v0", "x --assume_v0 -- -v0"),
            ("x map a-sp", "x map a-sp"),
        ];
        for (words, expected) in table {
            assert_eq!(rewrite(words), expected);
        }
    }

    #[test]
    fn words_that_are_no_text_stay() {
        use std::os::unix::ffi::OsStringExt;
        let odd = OsString::from_vec(vec![b'-', 0xff]);
        assert_eq!(
            rewrite_single_dash(["x".into(), odd.clone()], TABLE)[1],
            odd
        );
        assert!(rewrite_single_dash([], TABLE).is_empty());
    }
}
