//! Two nodes move one Pithos tree at the same time, under load, while the blockers of one are killed
//! with SIGKILL: no block is lost, none is there twice, no byte is wrong, and nothing is left over.
//!
//! `ARCHIPELAGO_MIGRATE_ROUNDS=N` sets how many rounds, shared by the two shapes of nodes; the
//! milestone's run is 1,000. The seed is printed and can be given by `ARCHIPELAGO_SEED`.
//!
//! A round:
//! 1. a tree as older releases left it is laid beneath the running nodes (`old`);
//! 2. readers ask both nodes for everything in it, over and over, and check every answer; they also
//!    store blocks and hash objects, both nodes the same ones (`load`). Only a volume that can be
//!    written to may be refused them, with ESTALE, and only if its lock was broken (`broken`);
//! 3. in two of three rounds `vlmc migrate --all` runs, on one node or on both;
//! 4. at random points processes die and are replaced, half of them just when an object, a map or a
//!    lock has changed (`moments`);
//! 5. when the readers have stopped, each node is asked for everything once, and then the files are
//!    looked at, with no node between (`judge`): each object lies in one place, where new ones are
//!    made, under one name, whole, and besides there is nothing.

mod broken;
mod judge;
mod load;
mod moments;
mod old;
mod run;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use run::Nodes;
use std::time::Instant;

fn number(variable: &str, otherwise: u64) -> u64 {
    std::env::var(variable)
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(otherwise)
}

fn rounds(shape: Option<&str>) {
    let rounds = number("ARCHIPELAGO_MIGRATE_ROUNDS", 12).div_ceil(2);
    let seed = number("ARCHIPELAGO_SEED", 1);
    println!("ARCHIPELAGO_SEED={seed} {rounds} rounds, shape {shape:?}");
    let begin = Instant::now();
    let nodes = Nodes::start(shape);
    let mut dice = ChaCha8Rng::seed_from_u64(seed);
    let mut sum = run::Seen::default();
    for round in 0..rounds {
        let seed = dice.random();
        let seen = nodes.round(round, seed, &mut ChaCha8Rng::seed_from_u64(seed));
        sum.add(&seen);
    }
    println!("{sum} in {:.0?}", begin.elapsed());
    sum.judge(rounds);
    nodes.stop();
}

#[test]
fn two_nodes_of_one_process_each_move_one_tree() {
    rounds(Some("node"));
}

#[test]
fn two_nodes_of_a_process_for_each_role_move_one_tree() {
    rounds(None);
}
