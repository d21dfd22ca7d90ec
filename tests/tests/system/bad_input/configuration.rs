//! Configurations that are none: the real programs name file, line, section and key, in one
//! sentence, and make nothing. Every kind of fault is in the tests of `config`.

use super::{program, text};
use config::SampleParams;
use std::process::Command;

/// What stands in the sample, what stands there instead, and what is said; `HERE` is the folder,
/// and `LINE` that of the key at fault in what stands there instead.
const FAULTS: &[(&str, &str, &str)] = &[
    (
        "portno_start = 2\nportno_end = 2\n",
        "portno_start = 1\nportno_end = 2\n",
        ":LINE: [blockerm] portno_start: Port range conflict: (1, 2) conflicts with (1, 1)",
    ),
    (
        "portno_start = 3\n",
        "",
        ": [mapperd] portno_start: the key is missing or empty",
    ),
    (
        "portno_end = 7",
        "portno_end = 128",
        ":LINE: [vlmcd] portno_end: Portno 128 out of range",
    ),
    (
        "portno_start = 4\nportno_end = 7",
        "portno_start = 64\nportno_end = 64",
        ":LINE: [vlmcd] portno_end: port 64 is not static: it must be below SEGMENT_DYNPORTS (64)",
    ),
    (
        "blockerm_port = 2",
        "blockerm_port = 9",
        ":LINE: [mapperd] blockerm_port: port 9 belongs to no role, but must be that of a blocker",
    ),
    (
        "type = mapperd",
        "type = mapper",
        ":LINE: [mapperd] type: mapper is not a valid role",
    ),
    (
        "type = vlmcd\n",
        "",
        ": [vlmcd] type: the key is missing or empty",
    ),
    (
        "archip_dir = maps",
        "archip_dir = nowhere",
        ":LINE: [blockerm] archip_dir: blockerm: Archip dir invalid: no directory HERE/nowhere",
    ),
    (
        "archip_dir = maps\n",
        "",
        ": [blockerm] archip_dir: the key is missing or empty",
    ),
    (
        "LOG_DIR = log\n",
        "LOG_DIR = nowhere\n",
        ": [blockerb] logfile: no directory HERE/nowhere for the log HERE/nowhere/blockerb.log; LOG_DIR and logfile say where it goes",
    ),
    (
        "mapperd vlmcd\n",
        "mapperd vlmcd fifth\n",
        ": [fifth]: No config found for fifth",
    ),
    (
        "[XSEG]",
        "[XSEG",
        ":LINE: Found opening bracket for section name but no closing bracket",
    ),
];

/// The line, counted from one, of the key that `sentence` names in `to`, which stands in `sample` in
/// the place of `from`.
fn line_at_fault(sample: &str, (from, to): (&str, &str), sentence: &str) -> usize {
    let before = sample.split_once(from).expect("it is in the sample").0;
    let key = sentence
        .split("] ")
        .nth(1)
        .and_then(|rest| rest.split(':').next());
    let below = to
        .lines()
        .position(|line| key.is_some_and(|key| line.starts_with(key)));
    before.matches('\n').count() + below.unwrap_or(0) + 1
}

#[test]
fn the_programs_name_file_section_and_key() {
    for (from, to, sentence) in FAULTS {
        let dir = tempfile::tempdir().unwrap();
        let file = SampleParams::new(dir.path()).write().unwrap();
        let sample = std::fs::read_to_string(&file).unwrap();
        let line = line_at_fault(&sample, (from, to), sentence);
        std::fs::write(&file, sample.replacen(from, to, 1)).unwrap();
        let sentence = sentence
            .replace("LINE", &line.to_string())
            .replace("HERE", dir.path().to_str().unwrap());
        for (tool, arguments) in [
            ("archipelago", &["start"][..]),
            ("archipelago", &["stop"]),
            ("vlmc", &["create", "volume-1", "-s", "1"]),
        ] {
            let mut command = Command::new(program(tool));
            command.arg("-c").arg(&file).args(arguments);
            let said = command.output().unwrap();
            let expected = format!("{}{sentence}\n", file.display());
            assert_eq!(text(&said.stderr), expected, "{tool} {arguments:?}");
            assert_eq!(said.status.code(), Some(255));
            assert!(said.stdout.is_empty());
        }
        let made: Vec<_> = ["run", "log", "blocks", "maps", "locks"]
            .iter()
            .flat_map(|part| std::fs::read_dir(dir.path().join(part)).unwrap())
            .collect();
        assert!(made.is_empty(), "{made:?}");
    }
}
