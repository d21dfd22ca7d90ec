//! What this crate reads of others' bytes as plain functions, for proptest, a stored corpus and
//! libFuzzer alike. A target panics when a promise is broken, and returns otherwise.

use crate::process::{Mark, parse_start};
use crate::{MARK_LEN_MAX, Name};

/// A fuzz target.
pub type Target = fn(&[u8]);

/// All targets by name; the corpus of each is in `corpus/NAME`.
pub const TARGETS: &[(&str, Target)] = &[("mark", mark), ("stat", stat), ("name", name)];

/// The text beside a lock: what was understood is understood again after it was written, and what
/// is written fits.
pub fn mark(data: &[u8]) {
    let Some(mark) = std::str::from_utf8(data).ok().and_then(Mark::from_text) else {
        return;
    };
    let text = mark.to_text();
    let again = Mark::from_text(&text).expect("it was just written");
    assert_eq!(
        (&again.process, again.instance),
        (&mark.process, mark.instance)
    );
    // A directory whose name does not fit is left out.
    if text.len() <= MARK_LEN_MAX && again.run_dir.is_some() {
        assert_eq!(again, mark);
    }
}

/// `/proc/PID/stat`, whose second field a process chooses itself.
pub fn stat(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data)
        && let Some(start) = parse_start(text)
    {
        // Whatever the name is, the numbers are those behind its last bracket.
        let (_, behind) = text.rsplit_once(") ").expect("it has an end");
        assert_eq!(parse_start(&format!("1 (x) {behind}")), Some(start));
    }
}

/// A name is one safe component of a path, keeps its bytes, and prints on one line.
pub fn name(data: &[u8]) {
    let Ok(name) = Name::new(data) else {
        return;
    };
    assert_eq!(name.as_bytes(), data);
    assert!(!data.iter().any(|byte| matches!(byte, 0 | b'/')));
    assert!(!matches!(data, b"." | b".."));
    assert!(!name.to_string().chars().any(char::is_control));
}
