//! What this crate reads as plain functions of bytes, for proptest, a stored corpus and libFuzzer
//! alike. A target panics when a promise is broken, and returns otherwise.

use crate::{Caller, NodeConfig, SegmentSpec};
use std::path::Path;

/// A fuzz target.
pub type Target = fn(&[u8]);

/// All targets by name; the corpus of each is in `corpus/NAME`.
pub const TARGETS: &[(&str, Target)] = &[("node", node), ("segment", segment)];

/// A whole configuration file, read for somebody who is not root. What is refused is refused in
/// one sentence that names the file; what is accepted keeps what [`NodeConfig`] promises.
pub fn node(data: &[u8]) {
    let file = Path::new("/nowhere/archipelago.conf");
    let caller = Caller {
        uid: 1,
        gid: 1,
        groups: Vec::new(),
    };
    let text = String::from_utf8_lossy(data);
    match NodeConfig::from_text(file, &text, &caller) {
        Err(error) => assert!(error.to_string().starts_with("/nowhere/archipelago.conf")),
        Ok(config) => check_node(&config),
    }
}

fn check_node(config: &NodeConfig) {
    let segment = &config.xseg.segment;
    assert!(segment.dynports < segment.ports);
    let mut ranges: Vec<_> = config.roles.iter().map(|role| role.ports).collect();
    ranges.sort_by_key(|range| range.start().0);
    for pair in ranges.windows(2) {
        assert!(
            pair[0].end() < pair[1].start(),
            "ports of two roles overlap"
        );
    }
    for role in &config.roles {
        assert!(role.ports.start() <= role.ports.end());
        assert!(role.ports.end().0 < segment.ports);
        assert!(role.logfile.iter().all(|path| path.is_absolute()));
    }
    let processes = config.processes();
    let placed: usize = processes.iter().map(|process| process.roles.len()).sum();
    assert_eq!(placed, config.roles.len(), "each role has one process");
}

/// `TYPE:NAME:DYNPORTS:PORTS:SIZE_MB:ALIGN`: what is accepted reads the same as it is shown.
pub fn segment(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    if let Ok(spec) = text.parse::<SegmentSpec>() {
        assert_eq!(spec.to_string().parse(), Ok(spec));
    }
}
