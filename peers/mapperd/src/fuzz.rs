//! What this crate reads of others' bytes as plain functions, for proptest, a stored corpus and
//! libFuzzer alike. A target panics when a promise is broken, and returns otherwise. (Maps are read
//! by `mapfile`, pages of LIST by `xseg`; both have targets of their own.)

use crate::intent::Intent;
use crate::naming;

/// A fuzz target.
pub type Target = fn(&[u8]);

/// All targets by name; the corpus of each is in `corpus/NAME`.
pub const TARGETS: &[(&str, Target)] =
    &[("rename_note", rename_note), ("volume_name", volume_name)];

/// The note of an unfinished rename: what was understood is what was written.
pub fn rename_note(data: &[u8]) {
    if let Some(intent) = Intent::decode(data) {
        let bytes = intent.encode();
        assert!(bytes.len() <= data.len());
        assert_eq!(Intent::decode(&bytes), Some(intent));
    }
}

/// The target of a request. Whoever may be made may be found again, under the same name.
pub fn volume_name(data: &[u8]) {
    let found = naming::volume_name(data);
    if let Ok(made) = naming::new_volume_name(data) {
        assert_eq!(found, Ok(made));
        assert!(!naming::is_old_name(data));
    }
}
