//! Drives every fuzz target with its stored corpus, with damaged copies of it, and with noise.
//! Noise alone hardly ever gets past a signature or a length; a copy with a few bytes changed does.

use mapfile::fuzz::{TARGETS, Target};
use proptest::prelude::*;
use proptest::sample::Index;
use std::path::Path;

fn corpus(target: &str) -> Vec<Vec<u8>> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("corpus")
        .join(target);
    let files = std::fs::read_dir(&dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
    let inputs: Vec<_> = files
        .map(|file| std::fs::read(file.unwrap().path()).unwrap())
        .collect();
    assert!(!inputs.is_empty(), "{} is empty", dir.display());
    inputs
}

#[test]
fn the_stored_corpus_passes() {
    for (name, target) in TARGETS {
        corpus(name).iter().for_each(|input| target(input));
    }
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

fn run(name: &str, target: Target, strategy: impl Strategy<Value = Vec<u8>>) {
    let mut runner = proptest::test_runner::TestRunner::default();
    let outcome = runner.run(&strategy, |input| {
        target(&input);
        Ok(())
    });
    outcome.unwrap_or_else(|failure| panic!("target {name}: {failure}"));
}

#[test]
fn damaged_copies_of_the_corpus_break_no_promise() {
    for &(name, target) in TARGETS {
        let inputs = prop::sample::select(corpus(name));
        let strategy =
            (inputs, prop::collection::vec(damage(), 1..6)).prop_map(|(mut input, damages)| {
                damages.iter().for_each(|damage| apply(&mut input, damage));
                input
            });
        run(name, target, strategy);
    }
}

#[test]
fn noise_breaks_no_promise() {
    for &(name, target) in TARGETS {
        run(name, target, prop::collection::vec(any::<u8>(), 0..2000));
    }
}
