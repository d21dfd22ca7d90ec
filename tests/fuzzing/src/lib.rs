//! Drives the fuzz targets of a crate on the stable toolchain: with the stored corpus, with damaged
//! copies of it, and with noise. Noise alone hardly ever gets past a signature or a length; a copy
//! with a few bytes changed does.
//!
//! A crate with decoders of foreign bytes has a public module `fuzz` whose `TARGETS` name a plain
//! function each, a folder `corpus/NAME` for each of them, and a test of one line: [`tests!`].
//! `cargo xtask fuzz` runs the same functions under libFuzzer, with the same corpus.

use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::TestRunner;
use std::path::Path;

/// A fuzz target: it panics when a promise is broken, and returns otherwise.
pub type Target = fn(&[u8]);

/// The tests of a crate's targets: `fuzzing::tests!(the_crate::fuzz::TARGETS);`.
#[macro_export]
macro_rules! tests {
    ($targets:expr) => {
        #[test]
        fn the_stored_corpus_passes() {
            $crate::corpus_passes(env!("CARGO_MANIFEST_DIR"), $targets);
        }

        #[test]
        fn damaged_copies_of_the_corpus_break_no_promise() {
            $crate::damaged_copies_pass(env!("CARGO_MANIFEST_DIR"), $targets);
        }

        #[test]
        fn noise_breaks_no_promise() {
            $crate::noise_passes($targets);
        }
    };
}

/// Runs each target over every stored input, and sees that no stored folder is without a target.
pub fn corpus_passes(package: &str, targets: &[(&str, Target)]) {
    for (name, target) in targets {
        corpus(package, name).iter().for_each(|input| target(input));
    }
    for folder in entries(&Path::new(package).join("corpus")) {
        let known = targets.iter().any(|(name, _)| folder.ends_with(name));
        assert!(known, "{} has no target", folder.display());
    }
}

/// Runs each target over copies of its stored inputs with a few changes.
pub fn damaged_copies_pass(package: &str, targets: &[(&str, Target)]) {
    for &(name, target) in targets {
        let inputs = prop::sample::select(corpus(package, name));
        let strategy =
            (inputs, prop::collection::vec(damage(), 1..6)).prop_map(|(mut input, damages)| {
                damages.iter().for_each(|damage| apply(&mut input, damage));
                input
            });
        run(name, target, &strategy);
    }
}

/// Runs each target over random bytes.
pub fn noise_passes(targets: &[(&str, Target)]) {
    for &(name, target) in targets {
        run(name, target, &prop::collection::vec(any::<u8>(), 0..2000));
    }
}

fn entries(dir: &Path) -> Vec<std::path::PathBuf> {
    let files = std::fs::read_dir(dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
    files.map(|file| file.unwrap().path()).collect()
}

fn corpus(package: &str, target: &str) -> Vec<Vec<u8>> {
    let dir = Path::new(package).join("corpus").join(target);
    let inputs: Vec<_> = entries(&dir)
        .iter()
        .map(|file| std::fs::read(file).unwrap())
        .collect();
    assert!(!inputs.is_empty(), "{} is empty", dir.display());
    inputs
}

/// One change to an input.
#[derive(Debug, Clone)]
enum Damage {
    Flip(Index, u8),
    Cut(Index),
    Append(Vec<u8>),
    Blank(Index, usize),
}

fn damage() -> impl Strategy<Value = Damage> {
    prop_oneof![
        4 => (any::<Index>(), any::<u8>()).prop_map(|(at, byte)| Damage::Flip(at, byte)),
        1 => any::<Index>().prop_map(Damage::Cut),
        1 => prop::collection::vec(any::<u8>(), 1..200).prop_map(Damage::Append),
        1 => (any::<Index>(), 1..200usize).prop_map(|(at, len)| Damage::Blank(at, len)),
    ]
}

fn apply(input: &mut Vec<u8>, damage: &Damage) {
    match damage {
        Damage::Append(bytes) => input.extend(bytes),
        _ if input.is_empty() => {}
        Damage::Flip(at, byte) => *at.get_mut(input) = *byte,
        Damage::Cut(at) => input.truncate(at.index(input.len())),
        Damage::Blank(at, len) => {
            let start = at.index(input.len());
            let end = input.len().min(start + len);
            input[start..end].fill(0);
        }
    }
}

/// A failure prints the shortest input that it finds.
fn run(name: &str, target: Target, strategy: &impl Strategy<Value = Vec<u8>>) {
    let outcome = TestRunner::default().run(strategy, |input| {
        target(&input);
        Ok(())
    });
    outcome.unwrap_or_else(|failure| panic!("target {name}: {failure}"));
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A driver that never reached the target would pass everything.
    #[test]
    fn a_broken_promise_is_found() {
        fn refuses_zero(bytes: &[u8]) {
            assert!(!bytes.contains(&0), "a zero");
        }
        let caught = std::panic::catch_unwind(|| noise_passes(&[("zero", refuses_zero)]));
        let message = *caught.unwrap_err().downcast::<String>().unwrap();
        assert!(message.contains("target zero"), "{message}");
        assert!(
            message.contains("[0]") || message.contains("0,"),
            "{message}"
        );
    }
}
